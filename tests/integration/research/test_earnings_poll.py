"""The earnings calendar: one call, dates that move, pass and disappear, and answers without any."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from domain.research import ResearchJob
from models.database import execute, fetch
from providers.market import FailureClass
from usecases.research.earnings_poll import choose
from usecases.research.policy import ResearchPolicy, use_research_policy

if TYPE_CHECKING:
    from tests.integration.research.conftest import World

pytestmark = pytest.mark.integration

JOB = ResearchJob.EARNINGS_POLL
TODAY = date(2026, 11, 20)
PAST, OLD, NEW = date(2026, 10, 28), date(2027, 1, 21), date(2027, 1, 28)


def dates() -> dict[str, Any]:
    return dict(fetch("SELECT symbol, next_earnings_date FROM company"))


def known(symbol: str, day: date) -> None:
    execute("UPDATE company SET next_earnings_date = %s WHERE symbol = %s", (day, symbol))


def test_earnings_poll_updates_calendar(world: World) -> None:
    ids = {symbol: world.company(symbol) for symbol in ("AAPL", "MSFT", "IBM")}
    known("AAPL", OLD)
    known("IBM", NEW)
    with capture_logs() as logs:
        world.night(JOB)
    assert dates() == dict.fromkeys(ids, NEW)
    assert world.script.calls == [("calendar", None)]  # one call for all
    moved = [
        (log["company_id"], log["old_date"], log["new_date"])
        for log in logs
        if log["event"] == "earnings date"
    ]
    assert sorted(moved) == sorted(
        [(ids["AAPL"], OLD.isoformat(), NEW.isoformat()), (ids["MSFT"], None, NEW.isoformat())]
    )
    assert world.run(JOB) == {
        "outcome": "completed", "reason": None,
        "processed": 3, "updated": 2, "skipped": 1, "errors": 0,
    }  # fmt: skip


def test_an_empty_calendar_erases_nothing(world: World) -> None:
    world.company("AAPL")
    known("AAPL", OLD)
    world.market.dates.clear()
    world.night(JOB)
    assert dates() == {"AAPL": OLD}
    run = world.run(JOB)
    assert (run["outcome"], run["reason"]) == ("partial", "1 × fake: EMPTY")


def test_a_company_that_is_missing_in_the_calendar_keeps_its_date(world: World) -> None:
    world.company("AAPL")
    world.company("IBM")
    known("AAPL", OLD)
    del world.market.dates["AAPL"]
    world.night(JOB)
    assert dates() == {"AAPL": OLD, "IBM": NEW}
    assert world.run(JOB)["outcome"] == "completed"


def test_without_a_full_calendar_each_company_is_asked_for(world: World) -> None:
    world.market.has_full_calendar = False
    world.company("AAPL")
    world.company("IBM")
    del world.market.dates["IBM"]  # EMPTY: it has announced nothing
    world.night(JOB)
    assert sorted(world.script.calls) == [("calendar", "AAPL"), ("calendar", "IBM")]
    assert dates() == {"AAPL": NEW, "IBM": None}
    assert world.run(JOB)["outcome"] == "completed"


def test_a_date_that_has_passed_is_remembered_as_a_report(world: World) -> None:
    world.company("AAPL")
    known("AAPL", PAST)
    world.night(JOB)
    assert fetch("SELECT next_earnings_date, last_report_date FROM company") == [(NEW, PAST)]


@pytest.mark.parametrize(
    ("before", "announced", "after"),
    [
        ((None, None), [], (None, None)),
        ((OLD, None), [], (OLD, None)),  # nothing is erased
        ((OLD, None), [NEW], (NEW, None)),  # moved
        ((NEW, None), [OLD], (OLD, None)),  # moved, to an earlier day
        ((None, None), [NEW, OLD, PAST], (OLD, PAST)),
        ((PAST, None), [], (PAST, PAST)),  # it is past, and nothing newer is announced
        ((PAST, None), [NEW], (NEW, PAST)),
        ((None, None), [PAST], (PAST, PAST)),  # a stale calendar
        ((OLD, None), [PAST], (OLD, PAST)),
        ((None, PAST), [TODAY], (TODAY, PAST)),  # today's is still to come
    ],
)
def test_which_date_is_next(before: Any, announced: list[date], after: Any) -> None:
    assert choose(before[0], before[1], announced, TODAY) == after


def test_a_calendar_that_is_down_is_asked_again_later(world: World) -> None:
    world.company("AAPL")
    world.fail("calendar", None, FailureClass.OUTAGE, times=2)
    world.night(JOB)
    assert dates() == {"AAPL": NEW}
    assert world.script.count("calendar") == 3
    assert world.run(JOB)["outcome"] == "completed"


def test_a_calendar_that_stays_down_ends_the_run(world: World) -> None:
    world.company("AAPL")
    world.fail("calendar", None, FailureClass.OUTAGE)
    world.night(JOB)
    assert world.run(JOB)["outcome"] == "failed"
    assert world.items(JOB) == {"AAPL": ("skipped", "fake: OUTAGE")}
    assert world.script.count("calendar") == 6


def test_a_calendar_that_takes_all_the_time_of_a_page(world: World) -> None:
    """The page works one batch all the same: the next one would ask as long again, for ever."""
    for symbol in ("AAPL", "MSFT"):
        world.company(symbol)
    use_research_policy(ResearchPolicy(world.folder, page_s=-1.0))
    world.night(JOB)
    assert set(dates().values()) == {NEW}
    assert world.script.calls == [("calendar", None)]
