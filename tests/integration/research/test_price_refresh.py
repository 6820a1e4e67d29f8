"""Daily prices: who is due, what is stored, splits, corrections, and the market cap."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from domain.research import ResearchJob
from models.database import execute, fetch
from providers.market import CorporateAction

if TYPE_CHECKING:
    from tests.integration.research.conftest import World

pytestmark = pytest.mark.integration

JOB = ResearchJob.PRICE_REFRESH
FRIDAY = date(2026, 11, 20)


def newest(symbol: str) -> date | None:
    [(day,)] = fetch(
        "SELECT max(session_date) FROM daily_price p JOIN company c ON c.id = p.company_id"
        " WHERE symbol = %s",
        (symbol,),
    )
    return day  # type: ignore[no-any-return]


def revision() -> int:
    return int(fetch("SELECT coalesce(max(inputs_revision), 0) FROM research_state")[0][0])


def test_price_refresh_updates_prices(world: World) -> None:
    company = world.company("AAPL")
    world.night(JOB)
    rows = fetch("SELECT session_date, close, adjusted_close, volume, provider FROM daily_price")
    assert len(rows) == len(world.market.bars["AAPL"])
    last = world.market.bars["AAPL"][-1]
    assert (FRIDAY, last.close, last.adjusted_close, 10, "fake") in rows
    run = world.run(JOB)
    assert (run["outcome"], run["processed"], run["updated"]) == ("completed", 1, 1)
    assert fetch("SELECT company_id, inputs_revision FROM research_state") == [(company, 1)]


def test_price_refresh_updates_market_cap(world: World) -> None:
    world.company("AAPL")
    world.company("IBM")
    execute("UPDATE company SET shares_outstanding = NULL, market_cap = 7 WHERE symbol = 'IBM'")
    world.night(JOB)
    close = world.market.bars["AAPL"][-1].close
    rows = {
        symbol: rest
        for symbol, *rest in fetch(
            "SELECT symbol, market_cap, market_cap_on, market_cap_note IS NOT NULL FROM company"
        )
    }
    assert rows["AAPL"] == [close * 1_000, FRIDAY, False]
    assert rows["IBM"] == [Decimal(7), None, True]  # the old one, and it says so


def test_a_company_with_the_last_session_is_not_asked_for(world: World) -> None:
    world.company("AAPL")
    world.night(JOB)
    world.company("IBM")
    world.script.calls.clear()
    world.later(hours=30)  # a Sunday: no session since
    world.night(JOB)
    assert world.script.calls == [("prices", "IBM")]
    assert world.items(JOB)["AAPL"] == ("skipped", "has the last closed session")
    assert world.run(JOB)["outcome"] == "completed"


def test_in_winter_the_night_comes_before_the_close(world: World) -> None:
    """02:00 in Kolkata is 15:30 in New York: the session that is open has no price yet."""
    world.company("AAPL")
    world.clock(datetime(2026, 11, 20, 20, 30, tzinfo=UTC))
    world.night(JOB)
    assert newest("AAPL") == date(2026, 11, 19)  # though the provider offers the 20th
    world.clock(datetime(2026, 11, 23, 20, 30, tzinfo=UTC))  # Monday's night
    world.night(JOB)
    assert newest("AAPL") == FRIDAY


def test_prices_that_did_not_change_write_nothing(world: World) -> None:
    world.company("AAPL")
    world.night(JOB)
    before = fetch("SELECT session_date, xmin::text FROM daily_price ORDER BY 1")
    world.later(days=4)
    world.night(JOB)  # Tuesday, and the provider has nothing newer
    assert world.items(JOB) == {"AAPL": ("skipped", "the provider has no newer session")}
    assert fetch("SELECT session_date, xmin::text FROM daily_price ORDER BY 1") == before
    assert revision() == 1
    assert world.run(JOB)["outcome"] == "completed"


def test_a_corrected_close_is_taken_over(world: World) -> None:
    world.company("AAPL")
    world.night(JOB)
    bars = world.market.bars["AAPL"]
    bars[-2] = replace(bars[-2], close=Decimal("1.5"))
    bars.append(replace(bars[-1], session_date=date(2026, 11, 23)))
    world.later(days=3)
    world.night(JOB)
    assert fetch("SELECT close FROM daily_price WHERE session_date = '2026-11-19'") == [
        (Decimal("1.5"),)
    ]
    assert revision() == 2
    assert world.script.count("prices") == 2


def test_after_a_split_the_whole_history_is_adjusted(world: World) -> None:
    world.company("AAPL")
    world.night(JOB)
    split = date(2026, 11, 23)
    halved = [replace(bar, adjusted_close=bar.close / 2) for bar in world.market.bars["AAPL"]]
    world.market.bars["AAPL"] = [*halved, replace(halved[-1], session_date=split)]
    world.market.actions["AAPL"] = [CorporateAction("split", split, Decimal(2))]
    world.later(days=3)
    world.night(JOB)
    assert fetch("SELECT count(*) FROM daily_price WHERE adjusted_close <> close / 2") == [(0,)]
    assert fetch("SELECT kind, effective_date, value FROM corporate_action") == [
        ("split", split, Decimal(2))
    ]
    assert world.script.count("prices") == 3


def test_an_exchange_without_a_calendar_is_said(world: World) -> None:
    world.company("AAPL")
    world.company("ODD", exchange="LSE")
    world.night(JOB)
    assert world.items(JOB)["ODD"] == ("error", "no trading calendar for its exchange")
    assert world.run(JOB)["outcome"] == "partial"
    assert newest("AAPL") == FRIDAY


def test_a_close_that_cannot_be_is_an_error_of_one_company(world: World) -> None:
    for symbol in ("AAPL", "IBM", "MSFT"):
        world.company(symbol)
    world.market.bars["IBM"][-1] = replace(world.market.bars["IBM"][-1], close=Decimal(-1))
    world.night(JOB)
    assert world.items(JOB)["IBM"] == ("error", "unexpected IntegrityError")
    run = world.run(JOB)
    assert (run["outcome"], run["updated"], run["errors"]) == ("partial", 2, 1)
    assert newest("IBM") is None
    assert newest("MSFT") == FRIDAY
