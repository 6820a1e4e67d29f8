"""P/E and momentum: four quarters in a row, splits, currencies, months of all lengths. By hand."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date

import pytest

from domain.metrics import Metric
from domain.metrics_exact import Bar, Company, Quarter, Split
from domain.research import MetricName

pytestmark = pytest.mark.integration

One = Callable[[Company, str, MetricName], str]
Make = Callable[..., Quarter]
Stored = dict[tuple[date, MetricName], Metric]

PE = MetricName.PE_RATIO
MOMENTA = (MetricName.MOMENTUM_1M, MetricName.MOMENTUM_3M, MetricName.MOMENTUM_6M)
ENDS = ("2012-03-31", "2012-06-30", "2012-09-29", "2012-12-29")
REPORTED = ("2012-04-25", "2012-07-25", "2012-10-31", "2013-01-24")


@pytest.fixture
def year(quarter: Make) -> list[Quarter]:
    """Apple's four quarters before 2013-03-01: EPS of 12.30, 9.32, 8.67 and 13.81, 44.10 in all."""
    eps = ("12.30", "9.32", "8.67", "13.81")
    return [
        quarter(end, reported_date=reported, eps_diluted=each)
        for end, reported, each in zip(ENDS, REPORTED, eps, strict=True)
    ]


@pytest.fixture
def company(year: list[Quarter], bars: Callable[..., tuple[Bar, ...]]) -> Company:
    return Company(
        1, "USD", tuple(year), bars("2013-02-28 441.40 57.56", "2013-03-01 430.47 56.14")
    )


def test_price_over_the_last_four_quarters(
    metrics_of: Callable[[Company], Stored], one: One, company: Company
) -> None:
    assert one(company, ENDS[3], PE) == "9.761224489796"  # 430.47 / 44.10
    stored = metrics_of(company)
    assert stored[date(2012, 12, 29), PE].vintage == "1/1/1/1@2013-03-01"
    dates = {end for end, name in stored if name in (PE, *MOMENTA)}
    assert dates == {date(2012, 12, 29)}  # only the newest period has them


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_four_quarters_in_a_row_or_nothing(
    one: One, company: Company, quarter: Make, missing: int
) -> None:
    """An older quarter does not stand in for the one that is missing."""
    older = quarter("2011-12-31", eps_diluted="13.87")
    rest = [each for n, each in enumerate(company.quarters) if n != missing]
    short = replace(company, quarters=(older, *rest))
    assert one(short, ENDS[3], PE) == "fewer_than_four_quarters"


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"eps_diluted": None}, "eps_missing"),
        ({"eps_diluted": "-35.43"}, "earnings_not_positive"),  # 12.30 + 9.32 + 13.81 is gone
        ({"eps_diluted": "-40"}, "earnings_not_positive"),
        ({"eps_diluted": "-35.42"}, "43047.000000000000"),  # 430.47 / 0.01
        ({"eps_diluted": "8.67", "currency": "EUR"}, "trading_currency_differs"),
    ],
)
def test_earnings_that_give_no_ratio(
    one: One, company: Company, quarter: Make, changed: dict[str, object], expected: str
) -> None:
    quarters = list(company.quarters)
    quarters[2] = quarter(ENDS[2], reported_date=REPORTED[2], **changed)
    assert one(replace(company, quarters=tuple(quarters)), ENDS[3], PE) == expected


def test_a_listing_in_another_currency_has_no_ratio(one: One, company: Company) -> None:
    assert one(replace(company, currency="GBP"), ENDS[3], PE) == "trading_currency_differs"


def test_without_a_price_there_is_none(one: One, company: Company) -> None:
    unpriced = replace(company, bars=())
    assert one(unpriced, ENDS[3], PE) == "price_missing"
    assert [one(unpriced, ENDS[3], name) for name in MOMENTA] == ["price_missing"] * 3


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        (("2013-02-15", "7"), "68.328571428571"),  # 430.47 / (44.10 / 7)
        (("2013-03-01", "7"), "68.328571428571"),  # on the price's session: its price is after it
        (("2013-03-02", "7"), "9.761224489796"),  # not yet
        (("2013-02-15", "0.1"), "0.976122448980"),  # one for ten
        (("2012-04-25", "7"), "9.761224489796"),  # known to every report
        (("2012-04-26", "7"), "12.827969348659"),  # 430.47 / (12.30 / 7 + 31.80)
        (("2012-07-25", "7"), "12.827969348659"),  # a report of that day knows it
        (("2012-10-31", "7"), "16.835903452900"),  # 430.47 / (21.62 / 7 + 22.48)
    ],
)
def test_earnings_from_before_a_split_are_rebased(
    one: One,
    company: Company,
    splits: Callable[..., tuple[Split, ...]],
    split: tuple[str, str],
    expected: str,
) -> None:
    assert one(replace(company, splits=splits(" ".join(split))), ENDS[3], PE) == expected


def test_splits_multiply(
    one: One, company: Company, splits: Callable[..., tuple[Split, ...]]
) -> None:
    """12.30 from before both, the others from before the second: 12.30 / 6 + 31.80 / 2 = 17.95."""
    twice = replace(company, splits=splits("2012-05-01 3", "2013-02-15 2"))
    assert one(twice, ENDS[3], PE) == "23.981615598886"


@pytest.mark.parametrize(
    ("effective", "expected"),
    [
        ("2012-12-29", "23.734168241966"),  # 12.30/7 + 9.32/7 + 8.67/7 + 13.81
        ("2012-12-30", "split_basis_unknown"),  # reported before or after it?
        ("2013-03-01", "split_basis_unknown"),
    ],
)
def test_a_report_without_a_date_may_know_a_split_or_not(
    one: One,
    company: Company,
    splits: Callable[..., tuple[Split, ...]],
    effective: str,
    expected: str,
) -> None:
    *rest, newest = company.quarters
    undated = (*rest, replace(newest, reported_date=None))
    given = replace(company, quarters=undated, splits=splits(f"{effective} 7"))
    assert one(given, ENDS[3], PE) == expected


@pytest.mark.parametrize(
    ("session", "bases"),
    [
        ("2013-03-31", ("2013-02-28", "2012-12-31", "2012-09-30")),  # no 31st of February
        ("2012-03-30", ("2012-02-29", "2011-12-30", "2011-09-30")),  # a leap year's
        ("2013-05-31", ("2013-04-30", "2013-02-28", "2012-11-30")),
        ("2013-01-15", ("2012-12-15", "2012-10-15", "2012-07-15")),
    ],
)
def test_momentum_reaches_back_calendar_months(
    metrics_of: Callable[[Company], Stored],
    company: Company,
    bars: Callable[..., tuple[Bar, ...]],
    session: str,
    bases: tuple[str, ...],
) -> None:
    """A bar on the day itself counts, one a day later does not; raw closes play no part."""
    after = [date.fromordinal(date.fromisoformat(day).toordinal() + 1) for day in bases]
    history = bars(
        f"{session} 1 120",
        *(f"{day} 9 {close}" for day, close in zip(bases, (100, 96, 150), strict=True)),
        *(f"{day} 9 7" for day in after),
    )
    stored = metrics_of(replace(company, bars=history))
    found = [stored[date(2012, 12, 29), name] for name in MOMENTA]
    assert [f"{metric.value:.2f}" for metric in found] == ["0.20", "0.25", "-0.20"]
    assert [metric.vintage for metric in found] == [f"@{session}/{day}" for day in bases]


def test_momentum_takes_the_last_bar_on_or_before(
    one: One, company: Company, bars: Callable[..., tuple[Bar, ...]]
) -> None:
    """2013-02-18 was a holiday: 2013-03-18 looks back to the Friday before it."""
    history = bars("2013-03-18 1 110", "2013-02-19 1 90", "2013-02-15 1 100")
    monthly = replace(company, bars=history)
    assert one(monthly, ENDS[3], MOMENTA[0]) == "0.100000000000"
    assert one(monthly, ENDS[3], MOMENTA[1]) == "history_too_short"


@pytest.mark.parametrize(("last", "base"), [("-", "100"), ("110", "-")])
def test_momentum_needs_adjusted_closes(
    one: One, company: Company, bars: Callable[..., tuple[Bar, ...]], last: str, base: str
) -> None:
    history = bars(f"2013-03-18 1 {last}", f"2013-02-18 1 {base}")
    given = replace(company, bars=history)
    assert one(given, ENDS[3], MOMENTA[0]) == "adjusted_close_missing"
