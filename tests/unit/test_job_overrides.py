"""JOB_OVERRIDES: what an installation may change about a job type, and what it is told."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from domain.errors import InvalidInput
from domain.job_types import JobType, Override, use_overrides
from jobs.failure import backoff
from settings import Settings, load_settings

PAYMENT = JobType.MATURITY_PAYMENT


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AMQP_URL", "DATABASE_URL", "ENVIRONMENT", "JOB_OVERRIDES"):
        monkeypatch.delenv(name, raising=False)
    load_settings.cache_clear()
    yield
    load_settings.cache_clear()
    use_overrides({})


def test_an_override_changes_its_type_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {job_type: job_type.spec for job_type in JobType}
    text = '{"MaturityPayment": {"max_retries": 3, "backoff_min_s": 2, "backoff_max_s": 5}}'
    monkeypatch.setenv("JOB_OVERRIDES", text)
    use_overrides(load_settings().overrides)
    assert PAYMENT.spec.max_retries == 3
    assert timedelta(seconds=1) <= backoff(PAYMENT.spec, 1) <= timedelta(seconds=2)
    assert backoff(PAYMENT.spec, 9) <= timedelta(seconds=5)
    assert all(j.spec == before[j] for j in JobType if j is not PAYMENT)
    use_overrides({})
    assert PAYMENT.spec == before[PAYMENT]


def test_no_overrides_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().overrides == {}
    monkeypatch.setenv("JOB_OVERRIDES", " ")
    assert Settings().overrides == {}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{bad", "JOB_OVERRIDES: .*not JSON"),
        ("[1]", "JOB_OVERRIDES: .*dictionary"),
        ('{"Nobody": {}}', "JOB_OVERRIDES: .*unknown job type 'Nobody'; known are MaturityPayment"),
        ('{"MaturityPayment": {"max_retries": -1}}', "JOB_OVERRIDES.MaturityPayment.max_retries"),
        ('{"MaturityPayment": {"max_retries": 1.5}}', "JOB_OVERRIDES.MaturityPayment.max_retries"),
        ('{"MaturityPayment": {"backoff_min": 1}}', "JOB_OVERRIDES.MaturityPayment.backoff_min: "),
        (
            '{"MaturityPayment": {"backoff_max_s": NaN}}',
            "JOB_OVERRIDES.MaturityPayment.backoff_max",
        ),
        (
            '{"MaturityPayment": {"backoff_min_s": 7200}}',
            "MaturityPayment.backoff_min_s: .* 7200 s",
        ),
        ('{"MaturityPayment": {"backoff_max_s": 0.5}}', "MaturityPayment.backoff_max_s: .* 0.5 s"),
        ('{"MaturityPayment": 3}', "JOB_OVERRIDES.MaturityPayment: "),
    ],
)
def test_a_mistake_is_named_by_its_field(
    text: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOB_OVERRIDES", text)
    monkeypatch.setenv("WORKER_THREADS", "none")
    with pytest.raises(InvalidInput, match=named) as refused:
        load_settings()
    assert "WORKER_THREADS" in str(refused.value)  # all of them at once


def test_a_backoff_that_begins_above_its_end_changes_nothing() -> None:
    with pytest.raises(InvalidInput, match="MaturityRecord"):
        use_overrides(
            {
                PAYMENT: Override(max_retries=0),
                JobType.MATURITY_RECORD: Override(backoff_min=timedelta(hours=1)),
            }
        )
    assert PAYMENT.spec.max_retries != 0
