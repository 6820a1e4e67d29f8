"""The worker's memory of messages: best first, and no service takes all the threads."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import Empty
from types import SimpleNamespace

import pytest

import jobs.fairness
from domain.job_types import JobType
from jobs.fairness import FairQueue

NOTIFY = JobType.NOTIFICATION_INDIVIDUAL.value
RECONCILE = JobType.PAYOUT_RECONCILE.value
PAYMENT = JobType.MATURITY_PAYMENT.value


@dataclass(order=True)
class Item:
    priority: int
    message: SimpleNamespace = field(compare=False)


def put(queue: FairQueue, *names: str, priority: int = 3) -> None:
    for name in names:
        queue.put(Item(priority, SimpleNamespace(actor_name=name)))


def get(queue: FairQueue, timeout: float = 0.05) -> str:
    return str(queue.get(timeout=timeout).message.actor_name)


def keep(queue: FairQueue, count: int) -> list[str]:
    """Messages taken by as many threads that never end their work."""
    taken: list[str] = []
    for _ in range(count):
        thread = threading.Thread(target=lambda: taken.append(get(queue, 1)))
        thread.start()
        thread.join(5)
    return taken


def test_one_service_leaves_a_thread_to_the_others() -> None:
    queue = FairQueue(2)
    put(queue, *[RECONCILE] * 5, priority=1)
    put(queue, NOTIFY, priority=9)
    assert keep(queue, 2) == [RECONCILE, RECONCILE]
    assert get(queue) == NOTIFY  # though three better ones wait
    with pytest.raises(Empty):
        get(queue)


def test_the_types_of_a_service_share_its_slots() -> None:
    queue = FairQueue(1)
    put(queue, RECONCILE, PAYMENT)
    assert len(keep(queue, 1)) == 1
    with pytest.raises(Empty):
        get(queue)


def test_ticks_and_the_inbox_need_no_slot() -> None:
    queue = FairQueue(1)
    put(queue, "inbox", "inbox", "open_due_slots")
    assert len(keep(queue, 3)) == 3


def test_a_slot_comes_back_once_however_many_messages_a_batch_had() -> None:
    queue = FairQueue(1)
    put(queue, *[NOTIFY] * 6)
    assert get(queue) == NOTIFY
    first = SimpleNamespace(actor_name=NOTIFY)
    assert len(queue.take_along(first, 1, lambda *_: True)) == 1
    queue.task_done()
    queue.task_done()
    assert len(keep(queue, 1)) == 1
    with pytest.raises(Empty):
        get(queue)
    assert queue.unfinished_tasks == 4


def test_a_waiting_thread_is_woken_by_a_slot() -> None:
    queue = FairQueue(1)
    put(queue, RECONCILE, RECONCILE)
    assert get(queue) == RECONCILE
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(get, queue, 10)
        queue.task_done()
        assert waiting.result(5) == RECONCILE


def test_what_arrives_together_wakes_as_many_threads_as_may_run() -> None:
    queue = FairQueue(2)
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(get, queue, 10) for _ in range(2)]
        queue.put_all([Item(3, SimpleNamespace(actor_name=NOTIFY)) for _ in range(5)])
        assert [each.result(5) for each in waiting] == [NOTIFY] * 2
    with pytest.raises(Empty):
        get(queue)
    assert queue.unfinished_tasks == 5


@pytest.fixture
def hold() -> Iterator[Callable[[FairQueue], str]]:
    """hold(queue): what one more thread takes, which stays at it until the test ends."""
    end = threading.Event()
    threads: list[threading.Thread] = []

    def hold_one(queue: FairQueue) -> str:
        taken: Future[str] = Future()

        def work() -> None:
            taken.set_result(get(queue, 5))
            end.wait(30)

        threads.append(threading.Thread(target=work))
        threads[-1].start()
        return taken.result(5)

    yield hold_one
    end.set()
    for thread in threads:
        thread.join()


def test_quick_batches_leave_each_other_room_and_slow_ones_do_not_count(
    hold: Callable[[FairQueue], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs.fairness, "_QUICK_S", 60.0)
    queue = FairQueue(3, quick_batches=1)
    put(queue, *[NOTIFY] * 5, *[RECONCILE] * 2)
    assert [hold(queue) for _ in range(3)] == [NOTIFY, RECONCILE, RECONCILE]
    with pytest.raises(Empty):
        get(queue)
    monkeypatch.setattr(jobs.fairness, "_QUICK_S", 0.0)
    assert [hold(queue) for _ in range(2)] == [NOTIFY] * 2
    with pytest.raises(Empty):
        get(queue)


def test_beside_a_quick_batch_another_begins_when_it_is_worth_it(
    hold: Callable[[FairQueue], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs.fairness, "_QUICK_S", 60.0)
    monkeypatch.setattr(jobs.fairness, "_WORTH_ANOTHER", 4)
    queue = FairQueue(3, quick_batches=2)
    put(queue, *[NOTIFY] * 4)
    assert hold(queue) == NOTIFY
    with pytest.raises(Empty):
        get(queue)
    put(queue, NOTIFY)
    assert hold(queue) == NOTIFY
    put(queue, NOTIFY, NOTIFY)
    with pytest.raises(Empty):
        get(queue)


def test_what_is_left_at_the_end_can_be_drained() -> None:
    queue = FairQueue(1)
    put(queue, *[RECONCILE] * 3)
    assert [queue.get_nowait().message.actor_name for _ in range(3)] == [RECONCILE] * 3
    with pytest.raises(Empty):
        queue.get_nowait()


def test_the_best_come_first() -> None:
    queue = FairQueue(8)
    for priority, name in ((3, RECONCILE), (0, "inbox"), (1, PAYMENT)):
        put(queue, name, priority=priority)
    assert [get(queue) for _ in range(3)] == ["inbox", PAYMENT, RECONCILE]


def test_a_batch_takes_what_is_alike_and_no_more() -> None:
    queue = FairQueue(2)
    put(queue, *[RECONCILE] * 3)
    put(queue, PAYMENT, priority=4)
    first = SimpleNamespace(actor_name=RECONCILE)

    def alike(one: SimpleNamespace, other: SimpleNamespace) -> bool:
        return bool(one.actor_name == other.actor_name)

    assert len(queue.take_along(first, 2, alike)) == 2
    assert [each.actor_name for each in queue.take_along(first, 9, alike)] == [RECONCILE]
    assert queue.qsize() == 1


def test_a_batch_ends_where_another_service_has_a_better_one() -> None:
    queue = FairQueue(2)
    put(queue, NOTIFY, NOTIFY, priority=3)
    put(queue, PAYMENT, priority=1)
    first = SimpleNamespace(actor_name=NOTIFY)
    assert queue.take_along(first, 9, lambda *_: True) == []
    assert get(queue) == PAYMENT
    assert len(queue.take_along(first, 9, lambda *_: True)) == 2


def test_only_who_may_run_it_is_woken() -> None:
    """A full service's messages cost the threads that wait for others nothing."""
    queue = FairQueue(1)
    put(queue, RECONCILE)
    assert get(queue) == RECONCILE
    woken: list[object] = []
    queue.not_empty.notify = lambda n=1: woken.append(n)  # type: ignore[method-assign]
    put(queue, PAYMENT)
    assert woken == []
    put(queue, NOTIFY)
    assert woken == [1]
