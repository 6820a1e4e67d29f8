"""Way C: what waits together commits together, and one bad job harms no other."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from dramatiq import Message, Worker

import jobs.actor
import jobs.batch
from domain.errors import Rejected
from domain.job_types import JobType
from jobs.actor import Handler
from jobs.batch import BATCH_MAX, deliver_batch, deliver_waiting
from jobs.enqueue import enqueue
from jobs.fairness import FairQueue
from jobs.inprocess import InProcessBroker
from models.database import execute, fetch, transaction

NOTIFY = JobType.NOTIFICATION_INDIVIDUAL
Handle = Callable[..., None]


@pytest.fixture(autouse=True)
def _nothing_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs.batch, "_fitting", {})


def enqueue_some(count: int) -> list[UUID]:
    with transaction():
        return [enqueue(NOTIFY.message("kind", str(number))).id for number in range(count)]


def statuses(job_ids: Sequence[UUID]) -> list[str]:
    found = dict(fetch("SELECT id::text, status FROM job_queue"))
    return [found[str(job_id)] for job_id in job_ids]


def write_effect(kind: str, subject_id: str) -> None:
    execute("INSERT INTO effect VALUES (%s)", (f"{subject_id} in {transaction_id()}",))


def transaction_id() -> str:
    return str(fetch("SELECT pg_current_xact_id()::text")[0][0])


def test_a_batch_is_one_transaction(handle: Handle, effects: Callable[[], list[str]]) -> None:
    handle(NOTIFY, write_effect)
    ids = enqueue_some(10)
    deliver_batch(NOTIFY, ids)
    assert len(effects()) == 10
    assert len({effect.split(" in ")[1] for effect in effects()}) == 1
    assert statuses(ids) == ["completed"] * 10
    assert fetch("SELECT count(*) FROM job_outbox") == [(0,)]
    deliver_batch(NOTIFY, ids)
    assert len(effects()) == 10, "a second delivery took effect"


def test_one_bad_job_fails_alone(handle: Handle, effects: Callable[[], list[str]]) -> None:
    def run(kind: str, subject_id: str) -> None:
        write_effect(kind, subject_id)
        if subject_id == "3":
            raise Rejected("not this one")

    handle(NOTIFY, run)
    ids = enqueue_some(5)
    deliver_batch(NOTIFY, ids)
    assert statuses(ids) == ["completed", "completed", "completed", "failed", "completed"]
    assert [effect.split()[0] for effect in effects()] == ["0", "1", "2", "4"]


def test_a_batch_lets_go_of_its_locks_in_time(
    handle: Handle, effects: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs.batch, "BATCH_TIME_S", 0.0)
    handle(NOTIFY, write_effect)
    ids = enqueue_some(4)
    deliver_batch(NOTIFY, ids)
    assert statuses(ids) == ["completed"] * 4
    assert len({effect.split(" in ")[1] for effect in effects()}) == 4


def test_slow_bodies_lock_no_more_than_they_get_to(
    handle: Handle, effects: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs.batch, "BATCH_TIME_S", 0.0)
    locked: list[int] = []

    def run(kind: str, subject_id: str) -> None:
        ours = "SELECT count(*) FROM job_queue WHERE xmax::text = pg_current_xact_id()::text"
        locked.append(int(fetch(ours)[0][0]))

    handle(NOTIFY, run)
    deliver_batch(NOTIFY, enqueue_some(10))
    assert locked[0] == 10
    assert max(locked[1:]) <= 2
    monkeypatch.setattr(jobs.batch, "BATCH_TIME_S", 60.0)
    for _ in range(4):  # quick again: as many as ever
        ids = enqueue_some(16)
        deliver_batch(NOTIFY, ids)
        assert statuses(ids) == ["completed"] * 16
    assert jobs.batch._fitting[NOTIFY] >= 16


def test_a_set_based_body_gets_all_payloads(
    database: str, handle: Handle, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle(NOTIFY, write_effect)
    given: list[list[dict[str, str]]] = []
    handler = Handler(NOTIFY, write_effect, None, given.append)
    monkeypatch.setitem(jobs.actor._handlers, NOTIFY, handler)
    ids = enqueue_some(3)
    deliver_batch(NOTIFY, ids)
    assert sorted(payload["subject_id"] for payload in given[0]) == ["0", "1", "2"]
    assert statuses(ids) == ["completed"] * 3


def test_the_next_steps_of_a_batch_are_in_its_transaction(
    handle: Handle, effects: Callable[[], list[str]]
) -> None:
    handle(NOTIFY, write_effect)
    with transaction():
        first = [
            enqueue(NOTIFY.message("kind", str(n)) | NOTIFY.message("next", str(n))).id
            for n in range(3)
        ]
    deliver_batch(NOTIFY, first)
    rows = fetch("SELECT parent::text, status FROM job_queue WHERE parent IS NOT NULL")
    assert sorted(rows) == sorted((str(job_id), "pending") for job_id in first)


class Waiting:
    """A delivered message; `redelivered` as RabbitMQ says it."""

    def __init__(self, job_id: UUID, *, published: int = 1, redelivered: bool = False) -> None:
        self.message_id = str(job_id)
        self.actor_name = NOTIFY.value
        self.queue_name = "notifications"
        self.options = {"published": published}
        self.redelivered = redelivered


def worker_with(broker: InProcessBroker, waiting: Sequence[Waiting]) -> tuple[Worker, list[str]]:
    """A worker that was never started, with messages in its memory; and what it acks."""
    worker = Worker(broker)
    worker.work_queue = FairQueue(1)
    acked: list[str] = []
    consumer: Any = SimpleNamespace(post_process_message=lambda m: acked.append(m.message_id))
    worker.consumers["notifications"] = consumer
    for number, message in enumerate(waiting):
        item: Any = Item(number, message)
        worker.work_queue.put(item)
    jobs.batch.attach(broker, worker)
    return worker, acked


class Item:
    """What Dramatiq puts into its memory."""

    def __init__(self, priority: int, message: Waiting) -> None:
        self.priority = priority
        self.message = message


def test_what_waits_is_taken_acked_and_counted(
    handle: Handle, effects: Callable[[], list[str]]
) -> None:
    handle(NOTIFY, write_effect)
    ids = enqueue_some(BATCH_MAX + 5)
    broker = InProcessBroker(prefetch=lambda _queue: 1, middleware=[])
    worker, acked = worker_with(broker, [Waiting(job_id) for job_id in ids[1:]])
    deliver_waiting(broker, Waiting(ids[0]), NOTIFY)
    assert statuses(ids) == ["completed"] * BATCH_MAX + ["pending"] * 5
    assert acked == [str(job_id) for job_id in ids[1:BATCH_MAX]], "all but the caller's own"
    assert worker.work_queue.unfinished_tasks == 5


@pytest.mark.parametrize("again", [{"published": 2}, {"redelivered": True}])
def test_what_was_delivered_before_is_left_to_way_a(
    handle: Handle, effects: Callable[[], list[str]], again: dict[str, Any]
) -> None:
    handle(NOTIFY, write_effect)
    ids = enqueue_some(2)
    broker = InProcessBroker(prefetch=lambda _queue: 1, middleware=[])
    worker_with(broker, [Waiting(ids[1], **again)])
    deliver_waiting(broker, Waiting(ids[0]), NOTIFY)
    assert statuses(ids) == ["completed", "pending"]


def test_a_payout_job_is_never_batched() -> None:
    assert not any(each.spec.money and each.spec.way.value == "C" for each in JobType)


def test_the_message_type_is_what_we_stand_in_for() -> None:
    message: Message[None] = NOTIFY.message("kind", "1")
    assert {"message_id", "actor_name", "queue_name", "options"} <= set(message.asdict())
