"""The queue's small rules that need no service: backoff, registry, what goes on the wire."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from dramatiq import Message
from hypothesis import given
from hypothesis import strategies as st

import jobs.actor
from domain import ids
from domain.job_types import JobType
from jobs.actor import actor, handler_of
from jobs.failure import backoff, storable
from jobs.publisher import encode
from jobs.rabbitmq import connection_parameters
from jobs.relay import Outgoing

JOB = JobType.PAYOUT_RECONCILE


@pytest.fixture(autouse=True)
def _no_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs.actor, "_handlers", {})


@pytest.fixture
def _seeded() -> Iterator[None]:
    ids.seed(7)
    yield
    ids.seed(None)


@given(st.integers(1, 10_000))
def test_backoff_doubles_up_to_its_bound_with_jitter(attempts: int) -> None:
    spec = JOB.spec
    full = min(spec.backoff_min * 2 ** min(attempts - 1, 40), spec.backoff_max)
    assert full / 2 <= backoff(spec, attempts) <= full


@pytest.mark.usefixtures("_seeded")
def test_backoff_replays_from_the_seed() -> None:
    first = [backoff(JOB.spec, n) for n in range(1, 5)]
    ids.seed(7)
    assert [backoff(JOB.spec, n) for n in range(1, 5)] == first
    assert all(delay > timedelta(0) for delay in first)


@given(st.text(st.characters(codec=None)))
def test_any_text_becomes_storable(text: str) -> None:
    stored = storable(text)
    assert "\x00" not in stored
    stored.encode()
    assert stored == text or "\\" in stored


def test_a_job_type_has_one_actor() -> None:
    @actor(JOB)
    def first(slot_id: str) -> None: ...

    assert handler_of(JOB).run is first
    actor(JOB)(first)  # the module is imported again
    with pytest.raises(ValueError, match="PayoutReconcile"):

        @actor(JOB)
        def second(slot_id: str) -> None: ...


def test_a_job_without_its_actor_says_which() -> None:
    with pytest.raises(LookupError, match="PayoutReconcile"):
        handler_of(JOB)


def test_the_wire_carries_the_id_and_no_payload() -> None:
    job_id = ids.new_id()
    message: Message[None] = Message.decode(encode(Outgoing(job_id, JOB, 2), "q"))
    assert (message.message_id, message.queue_name) == (str(job_id), "q")
    assert (message.args, message.kwargs, message.options) == ((), {}, {"published": 2})


def test_the_urls_own_timeouts_win() -> None:
    ours = connection_parameters("amqp://h/")
    assert (ours.heartbeat, ours.blocked_connection_timeout) == (4, 30)
    theirs = connection_parameters("amqp://h/?heartbeat=3&blocked_connection_timeout=4")
    assert (theirs.heartbeat, theirs.blocked_connection_timeout) == (3, 4)
