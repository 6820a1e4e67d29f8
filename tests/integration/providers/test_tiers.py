"""Tiers: who is asked next and why, one provider per company, blocks that all processes share."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import pytest

from domain.budgets import Budget
from mocks.market import GOLDEN, MockMarketData, mock_market_ports
from models.database import fetch
from providers.market import FailureClass
from providers.ports import MarketPorts
from usecases.research.budgets import unblock, usage
from usecases.research.tiers import Answer, Failed, Outcome, Tiers, TryAgain

pytestmark = pytest.mark.integration

T = TypeVar("T")
Clock = Callable[[datetime], None]
NOON = datetime(2024, 11, 22, 17, 0, tzinfo=UTC)  # noon in New York
MIDNIGHT = datetime(2024, 11, 23, 5, 0, tzinfo=UTC)  # there
FREE = Budget(per_second=5, per_day=25, zone="America/New_York")


@pytest.fixture(autouse=True)
def at_noon(clock: Clock) -> None:
    clock(NOON)


def tiers(*rules: dict[str, object], budgets: dict[str, Budget] | None = None) -> Tiers:
    """The default tiers over the golden copy, with scripted faults. Nothing sleeps."""
    given = mock_market_ports(faults=json.dumps(rules), budgets=budgets)
    return Tiers(replace(given, pause=lambda seconds: None))


def first(fault: str, endpoint: str = "*", **more: object) -> dict[str, object]:
    return {"provider": "mock-primary", "endpoint": endpoint, "fault": fault, **more}


def second(fault: str, endpoint: str = "*") -> dict[str, object]:
    return {"provider": "mock-secondary", "endpoint": endpoint, "fault": fault}


def answer(outcome: Outcome[T]) -> Answer[T]:
    assert isinstance(outcome, Answer), outcome
    return outcome


def test_the_first_tier_answers_and_nothing_is_to_explain() -> None:
    found = answer(tiers().prices("AAPL", None))
    assert (found.provider, found.reason) == ("mock-primary", None)
    assert [u.provider for u in usage()] == ["mock-primary"]


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("quota", "QUOTA_EXHAUSTED"),
        ("500", "OUTAGE"),
        ("timeout", "OUTAGE"),
        ("not_entitled", "NOT_ENTITLED"),
        ("empty", "EMPTY"),
        ("malformed", "MALFORMED"),
        ("not_found", "NOT_FOUND"),
        ("auth", "AUTH"),
    ],
)
def test_the_next_tier_answers_and_the_reason_is_kept(fault: str, told: str) -> None:
    found = answer(tiers(first(fault)).prices("AAPL", None))
    assert found.provider == "mock-secondary"
    assert found.reason is not None
    assert found.reason.startswith(f"mock-primary: {told}")


def test_what_only_the_second_tier_knows_comes_from_there() -> None:
    found = answer(tiers().overview("SECND"))
    assert found.provider == "mock-secondary"
    assert "NOT_FOUND" in str(found.reason)


@pytest.mark.parametrize("endpoint", ["BALANCE_SHEET", "CASH_FLOW", "EARNINGS"])
def test_a_company_never_mixes_providers(endpoint: str, tmp_path: Path) -> None:
    """The first tier fails in the middle: nothing of it stays, and the second gives all four."""
    other = tmp_path / "AAPL"
    other.mkdir()
    for name in ("income_statement", "balance_sheet", "cash_flow", "earnings"):
        text = (GOLDEN / "MSFT" / f"{name}.json").read_text().replace('"MSFT"', '"AAPL"')
        (other / f"{name}.json").write_text(text)
    given = mock_market_ports(faults=json.dumps([first("500", endpoint)]))
    both = MarketPorts((given.market[0], MockMarketData(tmp_path, name="other")), (), ())
    found = Tiers(both).financials_of("AAPL")
    assert isinstance(found, Answer)
    assert found.provider == "other"
    expected = MockMarketData(tmp_path)
    assert found.value.income == expected.income_statement("AAPL")
    assert found.value.balance == expected.balance_sheet("AAPL")
    assert found.value.cash_flow == expected.cash_flow("AAPL")
    assert found.value.earnings == expected.earnings("AAPL")


def test_what_no_provider_has_is_lacking_and_the_rest_is_kept() -> None:
    found = tiers().financials_of("IPOX")
    assert isinstance(found, Answer)
    assert found.provider == "mock-primary"
    assert found.value.lacking == ("balance sheet",)
    assert len(found.value.income) == 3


def test_a_tier_with_everything_is_preferred_to_one_that_lacks_something() -> None:
    found = tiers(first("empty", "CASH_FLOW")).financials_of("AAPL")
    assert isinstance(found, Answer)
    assert (found.provider, found.value.lacking) == ("mock-secondary", ())
    assert found.reason == "mock-primary: lacks cash flow"


def test_an_exhausted_day_blocks_the_provider_until_its_midnight(clock: Clock) -> None:
    asked = tiers(first("quota", nth=1), budgets={"mock-primary": FREE})
    assert answer(asked.prices("AAPL", None)).provider == "mock-secondary"
    again = answer(asked.prices("AAPL", None))
    assert (again.provider, "requests per day" in str(again.reason)) == ("mock-secondary", True)
    assert usage()[0].day_used == 1  # the second time nobody asked
    clock(MIDNIGHT)
    assert answer(asked.prices("AAPL", None)).provider == "mock-primary"


def test_our_own_budget_sends_to_the_next_tier_when_the_day_is_used_up() -> None:
    asked = tiers(budgets={"mock-primary": Budget(per_day=1, zone="America/New_York")})
    assert answer(asked.prices("AAPL", None)).provider == "mock-primary"
    found = answer(asked.prices("MSFT", None))
    assert found.provider == "mock-secondary"
    assert found.reason == "mock-primary: the day's budget is used up"


def test_a_tier_that_is_back_soon_is_waited_for() -> None:
    asked = tiers(budgets={"mock-primary": Budget(per_minute=1)})
    assert answer(asked.prices("AAPL", None)).provider == "mock-primary"
    found = asked.prices("MSFT", None)
    assert found == TryAgain(
        NOON + timedelta(minutes=1),
        timedelta(minutes=1),
        "mock-primary: the minute's budget is used up",
        FailureClass.QUOTA_EXHAUSTED,
    )


def test_retry_after_holds_everybody(clock: Clock) -> None:
    asked = tiers(first("429", retry_after_s=60, nth=1))
    found = asked.prices("AAPL", None)
    assert isinstance(found, TryAgain)
    assert found.at == NOON + timedelta(seconds=60)
    assert isinstance(tiers().prices("AAPL", None), TryAgain)
    clock(NOON + timedelta(seconds=60))
    assert answer(asked.prices("AAPL", None)).provider == "mock-primary"


def test_a_long_retry_after_sends_to_the_next_tier() -> None:
    found = answer(tiers(first("429", retry_after_s=3_600)).prices("AAPL", None))
    assert found.provider == "mock-secondary"


def test_a_burst_is_waited_out_and_asked_again(clock: Clock) -> None:
    """The pause moves the clock, as real time would."""
    paused = []

    def pause(seconds: float) -> None:
        paused.append(seconds)
        clock(NOON + timedelta(seconds=sum(paused)))

    given = mock_market_ports(faults=json.dumps([first("burst", nth=1)]))
    found = answer(Tiers(replace(given, pause=pause)).prices("AAPL", None))
    assert (found.provider, found.reason, paused) == ("mock-primary", None, [1.0])


def test_a_companys_four_requests_keep_to_one_per_second(clock: Clock) -> None:
    paused: list[float] = []

    def pause(seconds: float) -> None:
        paused.append(seconds)
        clock(NOON + timedelta(seconds=sum(paused)))

    given = mock_market_ports(budgets={"mock-primary": Budget(per_second=1)})
    found = Tiers(replace(given, pause=pause)).financials_of("AAPL")
    assert isinstance(found, Answer)
    assert found.provider == "mock-primary"
    assert paused == [1.0, 1.0, 1.0]


def test_no_company_is_begun_that_the_day_cannot_end() -> None:
    asked = tiers(budgets={"mock-primary": Budget(per_day=6)})
    assert answer(asked.financials_of("AAPL")).provider == "mock-primary"
    assert answer(asked.financials_of("MSFT")).provider == "mock-secondary"
    assert [u.day_used for u in usage()] == [4, 4]


def test_a_refused_key_blocks_and_alerts_once(clock: Clock) -> None:
    asked = tiers(first("auth"))
    for _ in range(3):
        assert answer(asked.prices("AAPL", None)).provider == "mock-secondary"
    [(subject, message)] = fetch("SELECT subject, message FROM alert")
    assert subject == "provider mock-primary"
    assert "AUTH" in message
    assert unblock("mock-primary")
    answer(asked.prices("AAPL", None))
    assert len(fetch("SELECT 1 FROM alert")) == 2


def test_when_every_tier_is_exhausted_it_says_when_to_try_again() -> None:
    both = {"mock-primary": FREE, "mock-secondary": Budget(zone="Asia/Kolkata")}
    found = tiers(first("quota"), second("quota"), budgets=both).prices("AAPL", None)
    assert isinstance(found, TryAgain)
    assert found.at == datetime(2024, 11, 22, 18, 30, tzinfo=UTC)  # Kolkata's midnight is sooner
    assert "mock-primary" in found.reason
    assert "mock-secondary" in found.reason


def test_when_nobody_ever_will_it_says_why() -> None:
    found = tiers().prices("NOPE", None)
    assert isinstance(found, Failed)
    assert found.failure_class is FailureClass.NOT_FOUND
    assert found.reason.count("NOT_FOUND") == 2
    assert Tiers(MarketPorts((), (), ())).prices("AAPL", None) == Failed(
        "no provider is configured", FailureClass.NOT_ENTITLED
    )


def test_an_outage_everywhere_is_tried_again_later() -> None:
    found = tiers(first("500"), second("timeout")).prices("AAPL", None)
    assert isinstance(found, TryAgain)
    assert found.at == NOON + timedelta(minutes=5)


def test_the_calendar_of_all_comes_from_a_tier_that_has_it() -> None:
    found = tiers().calendar(None)
    assert isinstance(found, Answer)
    assert {date.symbol for date in found.value} >= {"AAPL", "MSFT"}
    assert isinstance(tiers(first("empty"), second("empty")).calendar(None), Failed)


def test_documents_come_from_all_who_have_them_each_once() -> None:
    given = mock_market_ports()
    twice = MarketPorts((), (*given.documents, *given.documents), ())
    found = Tiers(twice).documents_of("AAPL", "320193")
    assert isinstance(found, Answer)
    assert sorted(offer.ref.kind for offer in found.value) == ["filing", "filing", "transcript"]


def test_rates_of_the_newest_day() -> None:
    found = tiers().rates(None)
    assert isinstance(found, Answer)
    assert {rate.base for rate in found.value} == {"EUR"}
    assert len({rate.rate_date for rate in found.value}) == 1
