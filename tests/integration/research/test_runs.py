"""A night: six runs in order, each with its outcome; failures, budgets and overlaps in them."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from domain.errors import Rejected
from domain.research import ResearchJob
from jobs.runner import run_due, run_job
from models.database import execute, fetch, reconnect, transaction
from providers.market import FailureClass
from usecases.research.earnings_poll import EarningsPoll
from usecases.research.runs import revive_stranded, start_night

if TYPE_CHECKING:
    from tests.integration.research.conftest import World

pytestmark = pytest.mark.integration

PRICES = ResearchJob.PRICE_REFRESH
SYMBOLS = ("AAPL", "IBM", "MSFT")


def outcomes() -> list[tuple[str, str]]:
    return fetch("SELECT job, outcome FROM job_run ORDER BY created_at, nightly_id, position")


def test_job_records_success_in_database(world: World) -> None:
    for symbol in SYMBOLS:
        world.company(symbol)
    world.night()
    assert outcomes() == [(job.value, "completed") for job in ResearchJob]
    rows = fetch("SELECT started_at, finished_at FROM job_run ORDER BY position")
    assert all(started <= finished for started, finished in rows)
    assert world.run(PRICES) == {
        "outcome": "completed", "reason": None,
        "processed": 3, "updated": 3, "skipped": 0, "errors": 0,
    }  # fmt: skip
    assert fetch("SELECT DISTINCT status FROM job_queue") == [("completed",)]


def test_the_night_goes_on_after_a_run_that_failed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.company("AAPL")

    def refuse(self: EarningsPoll, run_id: str) -> None:
        raise Rejected("no way")

    monkeypatch.setattr(EarningsPoll, "open_items", refuse)
    world.night()
    assert outcomes()[:2] == [("earnings_poll", "failed"), ("price_refresh", "completed")]
    assert "no way" in world.run("earnings_poll")["reason"]
    assert outcomes()[-1] == ("metrics_recalc", "completed")


def test_job_handles_provider_errors_gracefully(world: World) -> None:
    for symbol in (*SYMBOLS, "GONE", "SLOW", "ODD"):
        world.company(symbol)
    world.fail("prices", "GONE", FailureClass.NOT_FOUND)
    world.fail("prices", "SLOW", FailureClass.OUTAGE, times=2)
    world.fail("prices", "ODD", FailureClass.MALFORMED)
    world.fail("prices", "IBM", ValueError("a bug, with\na line break"))
    world.night(PRICES)
    assert world.items(PRICES) == {
        "AAPL": ("updated", None),
        "MSFT": ("updated", None),
        "SLOW": ("updated", None),  # the third time
        "GONE": ("error", "fake: NOT_FOUND"),
        "ODD": ("error", "fake: MALFORMED"),
        "IBM": ("error", "unexpected ValueError"),
    }
    run = world.run(PRICES)
    assert (run["outcome"], run["processed"], run["updated"], run["errors"]) == ("partial", 6, 3, 3)
    assert run["reason"] == ("1 × fake: MALFORMED; 1 × fake: NOT_FOUND; 1 × unexpected ValueError")
    assert fetch("SELECT tries FROM job_run_item i JOIN company c ON c.id::text = item_key"
                 " WHERE symbol = 'ODD'") == [(3,)]  # fmt: skip


def test_a_provider_that_is_down_is_not_asked_for_every_company(world: World) -> None:
    for number in range(60):
        world.company(f"C{number}")
    world.fail("prices", "*", FailureClass.OUTAGE)
    world.night(PRICES)
    run = world.run(PRICES)
    assert (run["outcome"], run["processed"], run["updated"]) == ("failed", 60, 0)
    assert world.script.count("prices") < 6 * 20  # six pages, each until it knew
    assert run["reason"] == "60 × fake: OUTAGE"


@pytest.mark.parametrize("kind", [FailureClass.QUOTA_EXHAUSTED, FailureClass.AUTH])
def test_an_exhausted_day_leaves_the_rest_out(world: World, kind: FailureClass) -> None:
    for number in range(20):
        world.company(f"C{number}")
    for number in range(8):
        world.script.wrong["prices", f"C{number}"] = []
    for number in range(8, 20):
        world.fail("prices", f"C{number}", kind)
    world.night(PRICES)
    run = world.run(PRICES)
    # whoever is the first to be refused blocks the provider: some of the first may come too late
    assert run["updated"] in range(5, 9)
    assert (run["outcome"], run["skipped"]) == ("partial", 20 - run["updated"])
    assert run["reason"] == f"{run['skipped']} × fake: {kind.value}"
    assert world.script.count("prices") <= 8 + 6  # those in hand, and no more


def test_a_burst_is_waited_for_outside_of_the_job(world: World) -> None:
    world.company("AAPL")
    world.company("IBM")
    began = world.now
    wait = timedelta(minutes=1)
    world.fail("prices", "IBM", FailureClass.BURST, times=2, retry_after=wait)
    world.night(PRICES)
    assert {status for status, _ in world.items(PRICES).values()} == {"updated"}
    assert world.now - began >= 2 * wait
    assert world.run(PRICES)["outcome"] == "completed"
    assert fetch("SELECT max(deaths), max(attempts) FROM job_queue") == [(0, 0)]


def test_a_burst_that_never_ends_ends_the_run(world: World) -> None:
    world.company("AAPL")
    world.fail("prices", "AAPL", FailureClass.BURST, retry_after=timedelta(seconds=20))
    world.night(PRICES)
    assert world.items(PRICES) == {"AAPL": ("skipped", "fake: BURST")}
    assert world.run(PRICES)["outcome"] == "partial"


def test_a_wait_that_is_too_long_is_not_waited_for(world: World) -> None:
    world.company("AAPL")
    world.fail("prices", "AAPL", FailureClass.BURST, retry_after=timedelta(hours=3))
    world.night(PRICES)
    assert world.script.count("prices") == 1
    assert world.items(PRICES) == {"AAPL": ("skipped", "fake: BURST")}


def test_a_night_beside_a_night_is_refused_and_stored(world: World) -> None:
    world.company("AAPL")
    first = world.start()
    run_due(limit=2)
    with transaction():
        second = start_night(tuple(ResearchJob), trigger="manual")
    assert second.refused is not None
    assert "fx_refresh" in second.refused  # where the first one is
    rows = fetch("SELECT DISTINCT outcome, reason FROM job_run WHERE nightly_id = %s",
                 (second.nightly_id,))  # fmt: skip
    assert rows == [("refused", second.refused)]
    assert first[:8] in second.refused
    world.work()
    assert [outcome for _, outcome in outcomes()].count("completed") == 6


def test_many_nights_at_once_make_one(world: World) -> None:
    world.company("AAPL")
    nights = []
    barrier = threading.Barrier(6)

    def start() -> None:
        barrier.wait()
        with transaction():
            nights.append(start_night(tuple(ResearchJob), trigger="manual"))
        reconnect()

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(night.refused is None for night in nights) == 1
    world.work()
    assert world.script.count("calendar") == 1


def test_a_night_whose_job_was_cancelled_does_not_block_the_next(world: World) -> None:
    world.company("AAPL")
    world.start()
    execute("UPDATE job_queue SET status = 'cancelled', finished_at = overnight_now()")
    execute("DELETE FROM job_outbox")
    with transaction():
        night = start_night(tuple(ResearchJob), trigger="manual")
    assert night.refused is None
    assert fetch("SELECT outcome, count(*) FROM job_run GROUP BY 1 ORDER BY 1") == [
        ("failed", 6), (None, 6),
    ]  # fmt: skip


def test_a_night_whose_job_was_cancelled_can_be_taken_up(world: World) -> None:
    world.company("AAPL")
    world.start()
    run_due(limit=1)
    execute("UPDATE job_queue SET status = 'cancelled', finished_at = overnight_now()"
            " WHERE status = 'pending'")  # fmt: skip
    execute("DELETE FROM job_outbox")
    with transaction():
        assert revive_stranded() == 1
        assert revive_stranded() == 0
    world.work()
    assert [outcome for _, outcome in outcomes()] == ["completed"] * 6


def test_a_page_that_is_delivered_again_changes_nothing(world: World) -> None:
    for symbol in SYMBOLS:
        world.company(symbol)
    world.night()
    before, calls = world.tables(), len(world.script.calls)
    for (job_id,) in fetch("SELECT id FROM job_queue"):
        assert run_job(job_id) is False
    # an operator requeues what is done
    execute("UPDATE job_queue SET status = 'pending', finished_at = NULL, run_at = overnight_now()")
    execute("INSERT INTO job_outbox (job_id, queue, job_type, service, priority, due_at)"
            " SELECT id, queue, job_type, service, priority, run_at FROM job_queue")  # fmt: skip
    world.work()
    assert world.tables() == before
    assert len(world.script.calls) == calls


def test_a_company_that_is_no_longer_tracked_is_left_out(world: World) -> None:
    world.company("AAPL")
    world.company("IBM")
    world.script.before["prices", "AAPL"] = lambda: None
    world.start(PRICES)
    execute("UPDATE company SET tracked = false WHERE symbol = 'IBM'")
    world.work()
    assert set(world.items(PRICES)) == {"AAPL"}


def test_the_stalest_company_comes_first(world: World) -> None:
    for symbol in SYMBOLS:
        world.company(symbol)
    ids = dict(fetch("SELECT symbol, id FROM company"))
    for hours, symbol in enumerate(("IBM", "AAPL")):
        execute("INSERT INTO research_check VALUES (%s, 'price_refresh', overnight_now() - %s)",
                (ids[symbol], timedelta(hours=9 - hours)))  # fmt: skip
    world.night(PRICES)
    rows = fetch("SELECT symbol FROM job_run_item JOIN company c ON c.id::text = item_key"
                 " ORDER BY position")  # fmt: skip
    assert [symbol for (symbol,) in rows] == ["MSFT", "IBM", "AAPL"]
