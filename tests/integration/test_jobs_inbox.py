"""The inbox: what another program asks for becomes one job, and what it gets wrong is kept."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import dramatiq
import pytest
from dramatiq.brokers.stub import StubBroker

import domain.job_types
from domain.errors import InvalidInput
from domain.job_types import JobType
from jobs.inbox import MAX_TEXT, InboxActor, accept, declare_inbox, job_of
from models.database import execute, fetch

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("database")]

JOB = JobType.PAYOUT_RECONCILE
GOOD = {
    "version": 1,
    "source": "treasury",
    "id": "42",
    "job_type": JOB.value,
    "payload": {"slot_id": "s-1"},
}
BAD: list[tuple[dict[str, Any], str]] = [
    ({"source": None}, "source"),
    ({"source": " "}, "source"),
    ({"source": "a\x00b"}, "source"),
    ({"source": "x" * (MAX_TEXT + 1)}, "source"),
    ({"id": 42}, "id"),
    ({"id": "half a pair \ud800"}, "id"),
    ({"version": 2}, "version"),
    ({"version": None}, "version"),
    ({"job_type": "Nobody"}, "job_type"),
    ({"job_type": "MaturityPLTTransfer"}, "job_type"),  # a step inside a payout
    ({"payload": ["s-1"]}, "payload"),
    ({"payload": {}}, "slot_id"),
    ({"payload": {"slot_id": "s-1", "amount": "5"}}, "amount"),
    ({"payload": {"slot_id": None}}, "payload.slot_id"),
    ({"payload": {"slot_id": {"nested": 1}}}, "payload.slot_id"),
    ({"payload": {"slot_id": "nul \x00"}}, "payload.slot_id"),
]


@pytest.fixture(autouse=True)
def _open_to_the_inbox(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = replace(JOB.spec, from_inbox=True)
    monkeypatch.setitem(domain.job_types._SPECS, JOB, spec)


@pytest.fixture
def take() -> Callable[[Any], None]:
    """Give the inbox actor an envelope as its one argument, as a worker would."""
    broker: dramatiq.Broker = StubBroker(middleware=[])
    declare_inbox(broker)
    actor = broker.get_actor("inbox")
    assert isinstance(actor, InboxActor)
    return actor


def jobs() -> list[tuple[Any, ...]]:
    return fetch("SELECT id::text, job_type, payload, correlation FROM job_queue")


def test_a_message_becomes_one_job_however_often_it_comes() -> None:
    first = accept(GOOD)
    assert first
    assert accept(GOOD) is None
    assert jobs() == [(str(first.id), JOB.value, {"slot_id": "s-1"}, "inbox:treasury")]
    assert job_of("treasury", "42") == first.id
    assert job_of("treasury", "43") is None


def test_ids_of_different_sources_are_different() -> None:
    assert accept(GOOD)
    assert accept(GOOD | {"source": "registry"})
    assert len(jobs()) == 2


def test_a_failed_insert_forgets_the_message_too() -> None:
    execute("ALTER TABLE job_outbox ADD CHECK (false) NOT VALID")
    with pytest.raises(Exception, match="check constraint"):
        accept(GOOD)
    assert job_of("treasury", "42") is None


@pytest.mark.parametrize(("change", "named"), BAD)
def test_a_bad_message_is_refused_by_the_field(change: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        accept(GOOD | change)
    assert jobs() == []


@pytest.mark.parametrize(("change", "named"), BAD)
def test_a_bad_message_is_kept_as_stray_with_the_reason(
    change: dict[str, Any], named: str, take: Callable[[Any], None]
) -> None:
    take(GOOD | change)
    [(queue, reason, body)] = fetch("SELECT queue, reason, body FROM stray_message")
    assert queue == "inbox"
    assert named in reason
    assert json.loads(body)["job_type"] == (GOOD | change)["job_type"]
    assert jobs() == []


@pytest.mark.parametrize("envelope", ["text", 5, None, [], {}])
def test_an_envelope_that_is_none_is_kept_too(envelope: Any, take: Callable[[Any], None]) -> None:
    take(envelope)
    [(reason,)] = fetch("SELECT reason FROM stray_message")
    assert "source" in reason
