"""Statements: who is due, vintages, dates that differ by days, and two providers."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from domain.research import ResearchJob
from models.database import execute, fetch
from providers.market import EarningsReport, FailureClass, StatementPeriod
from usecases.research.statements import merge

if TYPE_CHECKING:
    from tests.integration.research.conftest import World

pytestmark = pytest.mark.integration

JOB = ResearchJob.FINANCIALS_REFRESH
END = date(2026, 9, 30)


def vintages(end: date = END) -> list[tuple[Any, ...]]:
    return fetch(
        "SELECT vintage, is_current, provider, revenue FROM statement WHERE period_end_date = %s"
        " ORDER BY vintage",
        (end,),
    )


def test_statements_are_stored_with_what_the_metrics_need(world: World) -> None:
    company = world.company("AAPL", quarters=2)
    world.night(JOB)
    [row] = fetch(
        "SELECT company_id, provider, currency, revenue, gross_profit, net_income,"
        " shares_outstanding, operating_cash_flow, capital_expenditure, eps_diluted, eps_basis,"
        " reported_date FROM statement WHERE period_end_date = %s",
        (END,),
    )
    assert row == (
        company, "fake", "USD", 1_000, 500, 100, 1_000, 250, -1, Decimal("0.1000"), "derived",
        END + timedelta(days=30),
    )  # fmt: skip
    assert fetch("SELECT market_cap_note FROM company") == [("no price is known",)]
    assert fetch("SELECT inputs_revision FROM research_state") == [(1,)]


def test_the_same_again_is_no_new_vintage_and_a_restatement_is(world: World) -> None:
    world.company("AAPL")
    world.night(JOB)
    world.later(days=8)
    world.market.shares = Decimal("1000.00")  # the same number, written otherwise
    world.night(JOB)
    assert vintages() == [(1, True, "fake", 1_000)]
    assert world.items(JOB)["AAPL"] == ("skipped", "no statement is new or changed")
    world.later(days=8)
    world.market.revenue["AAPL"][END] = Decimal(1_100)
    world.night(JOB)
    assert vintages() == [(1, False, "fake", 1_000), (2, True, "fake", 1_100)]
    assert fetch("SELECT inputs_revision FROM research_state") == [(2,)]


@pytest.mark.parametrize("days", [-10, -3, 9])
def test_a_date_that_was_normalised_is_the_same_period(world: World, days: int) -> None:
    world.company("AAPL", quarters=1)
    world.night(JOB)
    world.later(days=8)
    world.market.revenue["AAPL"] = {END + timedelta(days=days): Decimal(1_000)}
    world.night(JOB)
    assert fetch("SELECT DISTINCT period_end_date FROM statement") == [(END,)]
    # only the date of its report is another
    assert [row[1] for row in vintages()] == [False, True]


def test_who_is_due(world: World) -> None:
    world.company("AAPL")
    ids = dict(fetch("SELECT symbol, id FROM company"))
    world.night(JOB)

    def due() -> bool:
        world.night(JOB)
        return world.items(JOB)["AAPL"] != ("skipped", "no report since the last check")

    world.later(days=1)
    assert not due()
    reported = date(2026, 11, 22)
    execute("UPDATE company SET next_earnings_date = %s", (reported,))
    world.clock(datetime(2026, 11, 22, 20, 30, tzinfo=UTC))
    assert not due()  # today's report is not out yet
    for day in (23, 24, 25):  # the feed does not have the quarter yet: every night
        world.clock(datetime(2026, 11, day, 20, 30, tzinfo=UTC))
        assert due()
    world.market.revenue["AAPL"][date(2026, 12, 30)] = Decimal(1_020)
    world.later(days=1)
    assert due()
    world.later(days=1)
    assert not due()  # it is there
    world.later(days=6)
    assert due()  # a week is over
    assert fetch("SELECT count(*) FROM statement WHERE company_id = %s", (ids["AAPL"],)) == [(7,)]


def test_a_fallback_replaces_nothing_that_the_first_provider_said(world: World) -> None:
    world.company("AAPL", quarters=2)
    world.night(JOB)
    second = type(world.market)(type(world.script)(), "second")
    second.revenue["AAPL"] = {END: Decimal(999), date(2026, 12, 30): Decimal(1_050)}
    world.tiers(world.market, second)
    world.fail("income", "AAPL", FailureClass.NOT_FOUND)
    world.later(days=8)
    world.night(JOB)
    assert vintages() == [(1, True, "fake", 1_000)]
    assert vintages(date(2026, 12, 30)) == [(1, True, "second", 1_050)]  # nobody else has it
    assert fetch("SELECT DISTINCT provider_reason FROM job_run_item WHERE provider = 'second'") == [
        ("fake: NOT_FOUND",)
    ]


def test_what_the_first_provider_says_replaces_a_fallback(world: World) -> None:
    world.company("AAPL", quarters=1)
    second = type(world.market)(type(world.script)(), "second")
    second.revenue["AAPL"] = {END: Decimal(999)}
    world.tiers(world.market, second)
    world.fail("income", "AAPL", FailureClass.NOT_FOUND, times=1)
    world.night(JOB)
    assert vintages() == [(1, True, "second", 999)]
    world.later(days=8)
    world.night(JOB)
    assert vintages() == [(1, False, "second", 999), (2, True, "fake", 1_000)]


def test_feeds_that_name_the_period_by_other_days_or_currencies() -> None:
    def of(end: date, currency: str, **lines: int) -> StatementPeriod:
        numbers = {name: Decimal(value) for name, value in lines.items()}
        return StatementPeriod("quarter", end, currency, numbers)

    income = of(date(2012, 12, 29), "USD", totalRevenue=10)
    balance = of(date(2012, 12, 31), "USD", shortTermDebt=3)
    abroad = of(date(2012, 12, 31), "EUR", operatingCashflow=1)
    report = EarningsReport(date(2012, 12, 31), date(2013, 1, 24), Decimal("1.5"))
    [period] = merge([income], [balance], [abroad], [report])
    assert (period.end, period.currency) == (date(2012, 12, 29), "USD")
    assert period.balance == {"shortTermDebt": Decimal(3)}
    assert period.cash_flow == {}
    assert period.reported_eps == Decimal("1.5")


@pytest.mark.parametrize(
    ("endpoint", "column"),
    [("balance", "shares_outstanding"), ("cash_flow", "operating_cash_flow"),
     ("earnings", "reported_date")],
)  # fmt: skip
def test_a_feed_that_gives_nothing_erases_nothing(world: World, endpoint: str, column: str) -> None:
    """What the company never had may be missing; what is known stays, and the run says so."""
    world.company("AAPL")
    world.night(JOB)
    known = fetch(f"SELECT vintage, revenue, {column} FROM statement ORDER BY period_end_date")
    world.later(days=8)
    world.market.revenue["AAPL"][END] = Decimal(1_100)
    world.fail(endpoint, "AAPL", FailureClass.EMPTY)
    world.night(JOB)
    assert known == fetch(
        f"SELECT vintage, revenue, {column} FROM statement ORDER BY period_end_date"
    )
    assert world.items(JOB)["AAPL"] == (
        "skipped", "the answer lacks what is known of a statement",
    )  # fmt: skip
    assert world.run(JOB)["outcome"] == "partial"
    world.script.wrong.clear()
    world.later(days=8)
    world.night(JOB)
    assert vintages() == [(1, False, "fake", 1_000), (2, True, "fake", 1_100)]


def test_what_a_company_never_had_keeps_no_restatement_back(world: World) -> None:
    world.company("AAPL")
    world.fail("balance", "AAPL", FailureClass.NOT_FOUND)
    world.night(JOB)
    world.later(days=8)
    world.market.revenue["AAPL"][END] = Decimal(1_100)
    world.night(JOB)
    assert vintages() == [(1, False, "fake", 1_000), (2, True, "fake", 1_100)]
