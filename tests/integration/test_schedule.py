"""Nightly slots: late, lost and doubled ticks, two schedulers, days of downtime."""

from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import dramatiq
import pytest
from dramatiq.brokers.stub import StubBroker
from periodiq import PeriodiqMiddleware

from domain.job_types import JobType
from domain.research import ResearchJob
from domain.slots import Schedule
from jobs.ticks import declare_tick
from models.database import execute, fetch, transaction
from usecases.research.runs import start_night
from usecases.schedule import open_due_slots, schedule_states

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("database")]

NIGHT = Schedule("night", JobType.PAYOUT_RECONCILE, time(2, 0), "Asia/Kolkata")
RESEARCH = Schedule("nightly", JobType.RESEARCH_NIGHT, time(2, 0), "Asia/Kolkata")
Spawn = Callable[[Callable[[], Any]], "Future[Any]"]


@pytest.fixture
def clock() -> Callable[[datetime], None]:
    """clock(t): from now on the database says that it is t."""

    def set_to(moment: datetime) -> None:
        execute(
            "CREATE OR REPLACE FUNCTION overnight_now() RETURNS timestamptz LANGUAGE sql STABLE"
            f" AS $$ SELECT timestamptz '{moment.isoformat()}' $$"
        )

    return set_to


def slots() -> list[str]:
    sql = "SELECT local_date FROM schedule_slot WHERE outcome = 'opened' ORDER BY 1"
    return [str(day) for (day,) in fetch(sql)]


def test_a_slot_opens_once_at_its_hour_in_its_zone(clock: Callable[[datetime], None]) -> None:
    clock(datetime(2026, 11, 29, 20, 29, 59, tzinfo=UTC))  # 01:59:59 in Kolkata, of the 30th
    assert open_due_slots([NIGHT]) == 1
    assert slots() == ["2026-11-29"]
    clock(datetime(2026, 11, 29, 20, 30, tzinfo=UTC))
    assert [open_due_slots([NIGHT]) for _ in range(3)] == [1, 0, 0]
    assert slots() == ["2026-11-29", "2026-11-30"]
    assert fetch("SELECT count(*) FROM job_queue") == [(2,)]


def test_after_days_of_downtime_only_the_newest_slot_opens(
    clock: Callable[[datetime], None],
) -> None:
    for day in (1, 9):
        clock(datetime(2026, 11, day, 23, tzinfo=UTC))
        open_due_slots([NIGHT])
    assert slots() == ["2026-11-02", "2026-11-10"]
    rows = fetch("SELECT local_date, reason FROM schedule_slot WHERE outcome = 'superseded'")
    assert [day.day for day, _ in rows] == list(range(3, 10))
    assert all("2026-11-10 took its place" in reason for _, reason in rows)
    assert fetch("SELECT count(*) FROM job_queue") == [(2,)]


def test_no_slot_opens_behind_a_newer_one(clock: Callable[[datetime], None]) -> None:
    """The clock went back, or a scheduler that stood still for days goes on."""
    clock(datetime(2026, 11, 29, 21, tzinfo=UTC))
    assert open_due_slots([NIGHT]) == 1
    for back in (1, 3):
        clock(datetime(2026, 11, 29 - back, 21, tzinfo=UTC))
        assert open_due_slots([NIGHT]) == 0
    assert fetch("SELECT local_date::text, outcome FROM schedule_slot") == [
        ("2026-11-30", "opened")
    ]
    assert fetch("SELECT count(*) FROM job_queue") == [(1,)]


def test_a_scheduler_that_stood_still_for_days_opens_no_old_slot(
    clock: Callable[[datetime], None],
) -> None:
    """Its next look opens the one that is due."""

    class Frozen(Schedule):
        """Between its look at the clock and its transaction."""

        def newest_due(self, now: datetime) -> date:
            found = super().newest_due(now)
            clock(datetime(2026, 12, 3, 21, tzinfo=UTC))
            return found

    clock(datetime(2026, 11, 29, 21, tzinfo=UTC))
    frozen = Frozen("night", JobType.PAYOUT_RECONCILE, time(2, 0), "Asia/Kolkata")
    assert open_due_slots([frozen]) == 0
    assert slots() == []
    assert open_due_slots([NIGHT]) == 1
    assert slots() == ["2026-12-04"]


def test_a_night_that_is_under_way_refuses_the_next_slot(
    clock: Callable[[datetime], None],
) -> None:
    clock(datetime(2026, 11, 29, 21, tzinfo=UTC))
    assert open_due_slots([RESEARCH]) == 1
    with transaction():
        start_night(tuple(ResearchJob), trigger="slot", slot_id="nightly:2026-11-30")
    clock(datetime(2026, 11, 30, 21, tzinfo=UTC))
    assert open_due_slots([RESEARCH]) == 0
    [(outcome, reason, job)] = fetch(
        "SELECT outcome, reason, job_id FROM schedule_slot WHERE local_date = '2026-12-01'"
    )
    assert (outcome, job) == ("refused", None)
    assert "earnings_poll" in reason
    [state] = schedule_states([RESEARCH])
    assert state.last is not None
    assert (state.last.outcome, state.why) == ("refused", reason)
    assert state.next_at == datetime(2026, 12, 1, 20, 30, tzinfo=UTC)
    assert not state.overdue


def test_a_schedule_without_a_scheduler_is_overdue(clock: Callable[[datetime], None]) -> None:
    assert not schedule_states([NIGHT])[0].overdue  # a new installation
    clock(datetime(2026, 11, 29, 21, tzinfo=UTC))
    open_due_slots([NIGHT])
    clock(datetime(2026, 11, 30, 20, 31, tzinfo=UTC))
    assert not schedule_states([NIGHT])[0].overdue
    clock(datetime(2026, 11, 30, 20, 33, tzinfo=UTC))
    [state] = schedule_states([NIGHT])
    assert state.overdue
    assert str(state.next_at) == "2026-12-01 02:00:00+05:30"  # still to be opened


def test_two_schedulers_open_one_slot(spawn: Spawn) -> None:
    results = [spawn(lambda: open_due_slots([NIGHT])) for _ in range(8)]
    assert sum(result.result(10) for result in results) == 1
    assert fetch("SELECT count(*) FROM job_queue") == [(1,)]


def test_a_tick_that_comes_late_is_dropped_and_the_next_one_makes_good() -> None:
    broker = StubBroker(middleware=[PeriodiqMiddleware(skip_delay=30)])
    opened: list[int] = []
    declare_tick(broker, "tick", lambda: opened.append(open_due_slots([NIGHT])))
    worker = dramatiq.Worker(broker, worker_timeout=20, worker_threads=1)
    worker.start()
    for late in (timedelta(minutes=10), timedelta(0)):
        at = datetime.now(UTC) - late
        tick = broker.get_actor("tick")
        broker.enqueue(tick.message_with_options(scheduled_at=at.isoformat()))
        broker.join("ticks", timeout=10_000)
        worker.join()
    worker.stop()
    broker.close()
    assert opened == [1]
