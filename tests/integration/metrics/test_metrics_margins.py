"""Margins, cash flow and net debt of one quarter, and why each may be missing. By hand."""

from collections.abc import Callable

import pytest

from domain.metrics_exact import Company, Quarter
from domain.research import MetricName

pytestmark = pytest.mark.integration

One = Callable[[Company, str, MetricName], str]
Make = Callable[..., Quarter]
END = "2012-12-31"

OF_REVENUE = {
    MetricName.GROSS_MARGIN: "gross_profit",
    MetricName.OPERATING_MARGIN: "operating_income",
    MetricName.NET_MARGIN: "net_income",
    MetricName.OCF_TO_REVENUE: "operating_cash_flow",
}
NET_DEBT = MetricName.REVENUE_MINUS_NET_DEBT_TO_REVENUE
FCF = MetricName.FCF_TO_REVENUE


def _company(quarter: Quarter) -> Company:
    return Company(1, "USD", (quarter,))


@pytest.mark.parametrize(("name", "line"), OF_REVENUE.items())
@pytest.mark.parametrize(
    ("revenue", "amount", "expected"),
    [
        (200, 35, "0.175000000000"),
        (200, -35, "-0.175000000000"),
        (200, 0, "0.000000000000"),
        (3, 2, "0.666666666667"),
        (0, 35, "revenue_not_positive"),
        (-200, 35, "revenue_not_positive"),
        (None, 35, "revenue_missing"),
        (200, None, "{line}_missing"),
        (0, None, "revenue_not_positive"),
    ],
)
def test_lines_over_revenue(
    one: One,
    quarter: Make,
    name: MetricName,
    line: str,
    revenue: int | None,
    amount: int | None,
    expected: str,
) -> None:
    company = _company(quarter(END, revenue=revenue, **{line: amount}))
    assert one(company, END, name) == expected.format(line=line)


@pytest.mark.parametrize(
    ("operating", "capex", "expected"),
    [
        (50, 20, "0.300000000000"),
        (50, -20, "0.300000000000"),  # the other half of the feeds
        (50, 0, "0.500000000000"),
        (-50, 20, "-0.700000000000"),
        (50, None, "capital_expenditure_missing"),  # missing is not zero
        (None, 20, "operating_cash_flow_missing"),
        (None, None, "operating_cash_flow_missing"),
    ],
)
def test_free_cash_flow(
    one: One, quarter: Make, operating: int | None, capex: int | None, expected: str
) -> None:
    lines = {"operating_cash_flow": operating, "capital_expenditure": capex}
    assert one(_company(quarter(END, revenue=100, **lines)), END, FCF) == expected


@pytest.mark.parametrize(
    ("short", "long", "cash", "expected"),
    [
        (30, 50, 10, "0.300000000000"),  # (100 − (30 + 50 − 10)) / 100
        (30, None, 10, "0.800000000000"),  # one missing line counts 0
        (None, 50, 10, "0.600000000000"),
        (None, None, 10, "1.100000000000"),  # Apple in 2012: a balance sheet without debt
        (0, 0, 0, "1.000000000000"),
        (150, 50, 10, "-0.900000000000"),
        (30, 50, None, "cash_missing"),
    ],
)
def test_net_debt(
    one: One,
    quarter: Make,
    short: int | None,
    long: int | None,
    cash: int | None,
    expected: str,
) -> None:
    lines = {"short_term_debt": short, "long_term_debt": long, "cash": cash}
    company = _company(quarter(END, revenue=100, has_balance_sheet=True, **lines))
    assert one(company, END, NET_DEBT) == expected


def test_without_a_balance_sheet_there_is_no_net_debt(one: One, quarter: Make) -> None:
    assert one(_company(quarter(END, revenue=100)), END, NET_DEBT) == "balance_sheet_missing"
    assert one(_company(quarter(END, revenue=0)), END, NET_DEBT) == "revenue_not_positive"
    assert one(_company(quarter(END)), END, NET_DEBT) == "revenue_missing"
