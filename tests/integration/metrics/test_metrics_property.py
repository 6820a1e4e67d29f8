"""The SQL's metrics equal those in fractions, whatever the companies are like."""

from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.metrics import Metric
from domain.metrics_exact import Bar, Company, Quarter, Split
from domain.research import MetricName

pytestmark = pytest.mark.integration

_T = TypeVar("_T")

#: Lengths of quarters: 13 and 14 weeks, calendar quarters, the windows' edges, gaps, repeated ends.
_STEPS = st.sampled_from([91, 91, 91, 91, 98, 90, 92, 89, 80, 79, 100, 101, 1, 182, 273, 364, 84])
_FIRST = st.dates(date(2008, 1, 1), date(2012, 12, 31))
_CURRENCIES = st.sampled_from(["USD", "USD", "USD", "USD", "USD", "USD", "EUR"])


def _amounts(low: int, high: int) -> st.SearchStrategy[Decimal | None]:
    """Mostly ordinary figures; also none, zeros, cents and 30 digits."""
    return st.one_of(
        st.integers(low, high).map(Decimal),
        st.integers(low, high).map(Decimal),
        st.decimals(low, high, places=2),
        st.just(Decimal(0)),
        st.none(),
        st.integers(-(10**30), 10**30).map(Decimal),
    )


_REVENUE = st.one_of(st.integers(1, 10**6).map(Decimal), _amounts(-20, 10**6))
_LINE = _amounts(-(10**6), 10**6)
_EPS = st.one_of(st.decimals("0.01", 9, places=2), _amounts(-3, 9))


def _mostly(usual: st.SearchStrategy[_T], rare: st.SearchStrategy[_T]) -> st.SearchStrategy[_T]:
    """Long chains of ordinary values have to occur: four quarters with an EPS each."""
    return st.integers(0, 11).flatmap(lambda choice: rare if choice == 11 else usual)


_ORDERLY = {
    "step": _mostly(st.sampled_from([91, 91, 98, 90, 92]), _STEPS),
    "currency": _mostly(st.just("USD"), _CURRENCIES),
    "revenue": _mostly(st.integers(1, 10**6).map(Decimal), _REVENUE),
    "eps": _mostly(st.decimals("0.01", 9, places=2), _EPS),
}
_WILD = {"step": _STEPS, "currency": _CURRENCIES, "revenue": _REVENUE, "eps": _EPS}


@st.composite
def _quarters(draw: st.DrawFn) -> tuple[Quarter, ...]:
    of: dict[str, st.SearchStrategy[Any]] = draw(st.sampled_from([_ORDERLY, _ORDERLY, _WILD]))
    end = draw(_FIRST)
    made = []
    for _ in range(draw(_mostly(st.integers(5, 9), st.integers(0, 4)))):
        end += timedelta(draw(of["step"]))
        reported = draw(_mostly(st.integers(-5, 130), st.none()))
        quarter = Quarter(
            period_end_date=end,
            vintage=draw(st.integers(1, 3)),
            currency=draw(of["currency"]),
            reported_date=None if reported is None else end + timedelta(reported),
            revenue=draw(of["revenue"]),
            gross_profit=draw(_LINE),
            operating_income=draw(_LINE),
            net_income=draw(_LINE),
            has_balance_sheet=draw(st.booleans()),
            cash=draw(_LINE),
            short_term_debt=draw(_LINE),
            long_term_debt=draw(_LINE),
            operating_cash_flow=draw(_LINE),
            capital_expenditure=draw(_LINE),
            eps_diluted=draw(of["eps"]),
        )
        made.append(quarter)
    return tuple(made)


def _history(bars: st.SearchStrategy[Bar], at_least: int) -> st.SearchStrategy[list[Bar]]:
    return st.lists(bars, min_size=at_least, max_size=9, unique_by=lambda bar: bar.session_date)


@st.composite
def _companies(draw: st.DrawFn) -> Company:
    quarters = draw(_quarters())
    around = quarters[-1].period_end_date if quarters else date(2012, 3, 31)
    days = st.integers(-200, 60).map(lambda days: around + timedelta(days))
    closes = st.decimals("0.01", 900, places=4)
    bars = st.builds(Bar, days, closes, st.one_of(closes, closes, closes, st.none()))
    ratios = st.sampled_from(["2", "7", "1.5", "0.1", "0.3333", "20"]).map(Decimal)
    split_days = st.integers(-400, 60).map(lambda days: around + timedelta(days))
    return Company(
        id=draw(st.integers(1, 3)),
        currency="USD",
        quarters=quarters,
        bars=tuple(draw(_mostly(_history(bars, 3), _history(bars, 0)))),
        splits=tuple(
            draw(
                st.lists(
                    st.builds(Split, split_days, ratios),
                    max_size=4,
                    unique_by=lambda split: split.effective_date,
                )
            )
        ),
    )


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(company=_companies())
def test_sql_equals_fractions(
    metrics_of: Callable[[Company], dict[tuple[date, MetricName], Metric]], company: Company
) -> None:
    """Each example replaces one of three companies, so old rows must go or change as well."""
    metrics_of(company)
