"""Growth and acceleration: windows of days, restated bases, gaps, currencies. Figures by hand."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date

import pytest

from domain.metrics import Metric
from domain.metrics_exact import Company, Quarter
from domain.research import MetricName

pytestmark = pytest.mark.integration

YOY, QOQ = MetricName.YOY_REVENUE_GROWTH, MetricName.QOQ_REVENUE_GROWTH
ACCELERATION = MetricName.GROWTH_ACCELERATION
One = Callable[[Company, str, MetricName], str]
Make = Callable[..., Quarter]


def _company(*quarters: Quarter) -> Company:
    return Company(1, "USD", quarters)


def test_growth_and_acceleration(one: One, quarter: Make) -> None:
    company = _company(
        quarter("2011-09-30", revenue=80),
        quarter("2011-12-31", revenue=100),
        quarter("2012-09-30", revenue=100),  # 1.25 of the year before
        quarter("2012-12-31", revenue=150),  # 1.50
    )
    assert one(company, "2012-12-31", YOY) == "0.500000000000"
    assert one(company, "2012-12-31", QOQ) == "0.500000000000"
    assert one(company, "2012-12-31", ACCELERATION) == "0.250000000000"
    assert one(company, "2012-09-30", ACCELERATION) == "prior_quarter_missing"
    assert one(company, "2011-12-31", ACCELERATION) == "growth_missing"


def test_a_restated_base_changes_the_growth_of_later_quarters(
    metrics_of: Callable[[Company], dict[tuple[date, MetricName], Metric]], quarter: Make
) -> None:
    """Apple's quarter to 2009-06-27: 8,337 M as filed in 2009, 9,734 M restated in 2010."""
    filed = quarter("2009-06-27", revenue=8337)
    later = [quarter("2010-06-26", revenue=15700), quarter("2010-09-25", revenue=20343)]
    before_it = quarter("2009-09-26", revenue=12207)
    key = date(2010, 6, 26), YOY
    first = metrics_of(_company(filed, before_it, *later))
    assert f"{first[key].value:.4f}" == "0.8832"
    assert first[key].vintage == "1/1"
    restated = replace(filed, vintage=2, revenue=quarter("2009-06-27", revenue=9734).revenue)
    then = metrics_of(_company(restated, before_it, *later))
    assert f"{then[key].value:.4f}" == "0.6129"
    assert then[key].vintage == "1/2"
    # 20,343 / 12,207 − 1 = 66.65 %, and its acceleration over what was 88 % and is 61 %
    key = date(2010, 9, 25), ACCELERATION
    assert (f"{first[key].value:.4f}", first[key].vintage) == ("-0.2167", "1/1/1/1")
    assert (f"{then[key].value:.4f}", then[key].vintage) == ("0.0536", "1/1/1/2")


@pytest.mark.parametrize(
    ("base", "name", "expected"),
    [
        ("2012-10-12", QOQ, "0.250000000000"),  # 80 days before 2012-12-31
        ("2012-10-13", QOQ, "base_period_missing"),  # 79
        ("2012-09-22", QOQ, "0.250000000000"),  # 100
        ("2012-09-21", QOQ, "base_period_missing"),  # 101
        ("2012-01-16", YOY, "0.250000000000"),  # 350
        ("2012-01-17", YOY, "base_period_missing"),  # 349
        ("2011-12-17", YOY, "0.250000000000"),  # 380
        ("2011-12-16", YOY, "base_period_missing"),  # 381
    ],
)
def test_windows_are_in_days_and_their_edges_count(
    one: One, quarter: Make, base: str, name: MetricName, expected: str
) -> None:
    company = _company(quarter(base, revenue=100), quarter("2012-12-31", revenue=125))
    assert one(company, "2012-12-31", name) == expected


def test_a_gap_is_never_bridged(one: One, quarter: Make) -> None:
    """The row before is two quarters old, and four rows back lie five quarters."""
    ends = ["2011-09-30", "2011-12-31", "2012-03-31", "2012-06-30", "2012-12-31"]
    company = _company(*(quarter(end, revenue=100 + n) for n, end in enumerate(ends)))
    assert one(company, "2012-12-31", QOQ) == "base_period_missing"
    assert one(company, "2012-12-31", ACCELERATION) == "prior_quarter_missing"
    assert one(company, "2012-12-31", YOY) == "0.029702970297"  # 104 / 101 − 1


def test_quarters_of_fourteen_weeks_and_years_of_fifty_three(one: One, quarter: Make) -> None:
    """Apple's quarter to 2011-12-31 had 14 weeks: 98 days after the one before, 371 in a year."""
    company = _company(
        quarter("2010-09-25", revenue=20343),
        quarter("2010-12-25", revenue=26741),
        quarter("2011-09-24", revenue=28270),
        quarter("2011-12-31", revenue=46333),
    )
    assert one(company, "2011-12-31", QOQ) == "0.638945879024"
    assert one(company, "2011-12-31", YOY) == "0.732657716615"
    assert one(company, "2011-12-31", ACCELERATION) == "0.342990509222"


@pytest.mark.parametrize(
    "ends",
    [
        ("2012-01-28", "2012-10-27", "2013-02-02"),  # a retailer's year, which ends in January
        ("2012-01-31", "2012-10-31", "2013-01-31"),  # the same, as feeds normalise it
        ("2012-01-28", "2012-10-31", "2013-01-31"),  # one filed, then normalised
        ("2012-02-29", "2012-11-30", "2013-02-28"),
    ],
)
def test_january_year_ends_and_normalised_dates(
    one: One, quarter: Make, ends: tuple[str, ...]
) -> None:
    revenues = (100, 50, 110)
    company = _company(*(quarter(e, revenue=r) for e, r in zip(ends, revenues, strict=True)))
    assert one(company, ends[2], YOY) == "0.100000000000"
    assert one(company, ends[2], QOQ) == "1.200000000000"


def test_a_quarter_that_is_stored_under_two_dates_counts_the_later_one(
    one: One, quarter: Make
) -> None:
    company = _company(
        quarter("2012-09-29", revenue=100),
        quarter("2012-09-30", revenue=200),
        quarter("2012-12-31", revenue=300),
    )
    assert one(company, "2012-12-31", QOQ) == "0.500000000000"


@pytest.mark.parametrize(
    ("base", "own", "expected"),
    [
        ({"revenue": 0}, {"revenue": 10}, "base_revenue_not_positive"),
        ({"revenue": -5}, {"revenue": 10}, "base_revenue_not_positive"),
        ({"revenue": None}, {"revenue": 10}, "base_revenue_missing"),
        ({"revenue": 5}, {"revenue": None}, "revenue_missing"),
        ({"revenue": 5, "currency": "EUR"}, {"revenue": 10}, "base_currency_differs"),
        ({"revenue": 5, "currency": "EUR"}, {"revenue": 10, "currency": "EUR"}, "1.000000000000"),
        ({"revenue": 5}, {"revenue": 0}, "-1.000000000000"),
        ({"revenue": 5}, {"revenue": -5}, "-2.000000000000"),
    ],
)
def test_bases_that_give_no_growth(
    one: One,
    quarter: Make,
    base: dict[str, object],
    own: dict[str, object],
    expected: str,
) -> None:
    year_ago = _company(quarter("2011-12-31", **base), quarter("2012-12-31", **own))
    assert one(year_ago, "2012-12-31", YOY) == expected
    prior = _company(quarter("2012-09-30", **base), quarter("2012-12-31", **own))
    assert one(prior, "2012-12-31", QOQ) == expected


def test_acceleration_needs_both_growths(one: One, quarter: Make) -> None:
    company = _company(
        quarter("2011-12-31", revenue=100),
        quarter("2012-09-30", revenue=100),  # without a year ago
        quarter("2012-12-31", revenue=150),
    )
    assert one(company, "2012-12-31", ACCELERATION) == "prior_growth_missing"


def test_values_are_rounded_once(one: One, quarter: Make) -> None:
    """Just under half a unit of the last place: rounded first to 16 places, it would go up."""
    just_under = "1.0000000000004999999999999999"
    company = _company(quarter("2012-09-30", revenue=1), quarter("2012-12-31", revenue=just_under))
    assert one(company, "2012-12-31", QOQ) == "0.000000000000"
    half = _company(
        quarter("2012-09-30", revenue=2), quarter("2012-12-31", revenue="1.999999999999")
    )
    assert one(half, "2012-12-31", QOQ) == "-0.000000000001"
