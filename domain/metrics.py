"""The thirteen derived metrics: their words, windows and precision, and a quarter's diluted EPS.

    statements, prices, splits → domain.metrics_exact (fractions) = usecases.research.metrics (SQL)

A value is exact until it is stored, and rounded once; a missing value always has its reason.
"""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

from domain.research import MetricName

#: Stored values have this many decimal places, rounded once from the exact ratio, half away from
#: zero (as PostgreSQL's own `round` does).
STORED_PLACES = 12

#: How many days earlier the quarter before ended, and the same quarter a year ago: 13 or 14 weeks,
#: 52 or 53 weeks, and calendar months.
PRIOR_QUARTER_DAYS = (80, 100)
YEAR_AGO_DAYS = (350, 380)

#: A report without a date came no later than this after its quarter's end.
REPORTED_WITHIN_DAYS = 120

#: Of reported to derived EPS, where dilution and rounding to cents explain the difference.
_DILUTED_FROM, _DILUTED_TO = Fraction("0.95"), Fraction("1.005")
_CENT = Fraction("0.01")
_EPS_PLACES = 4


class NullReason(StrEnum):
    """Why a metric has no value. Stored, exported and stable; docs/metrics.md explains each."""

    REVENUE_MISSING = "revenue_missing"
    REVENUE_NOT_POSITIVE = "revenue_not_positive"
    BASE_PERIOD_MISSING = "base_period_missing"
    BASE_REVENUE_MISSING = "base_revenue_missing"
    BASE_REVENUE_NOT_POSITIVE = "base_revenue_not_positive"
    BASE_CURRENCY_DIFFERS = "base_currency_differs"
    GROWTH_MISSING = "growth_missing"
    PRIOR_QUARTER_MISSING = "prior_quarter_missing"
    PRIOR_GROWTH_MISSING = "prior_growth_missing"
    GROSS_PROFIT_MISSING = "gross_profit_missing"
    OPERATING_INCOME_MISSING = "operating_income_missing"
    NET_INCOME_MISSING = "net_income_missing"
    OPERATING_CASH_FLOW_MISSING = "operating_cash_flow_missing"
    CAPITAL_EXPENDITURE_MISSING = "capital_expenditure_missing"
    BALANCE_SHEET_MISSING = "balance_sheet_missing"
    CASH_MISSING = "cash_missing"
    PRICE_MISSING = "price_missing"
    FEWER_THAN_FOUR_QUARTERS = "fewer_than_four_quarters"
    TRADING_CURRENCY_DIFFERS = "trading_currency_differs"
    EPS_MISSING = "eps_missing"
    SPLIT_BASIS_UNKNOWN = "split_basis_unknown"
    EARNINGS_NOT_POSITIVE = "earnings_not_positive"
    ADJUSTED_CLOSE_MISSING = "adjusted_close_missing"
    HISTORY_TOO_SHORT = "history_too_short"


class EpsBasis(StrEnum):
    """Where a quarter's diluted EPS comes from."""

    REPORTED = "reported"  # the feed's, and it can be diluted GAAP
    DERIVED = "derived"  # net income per share: the feed's leaves something out, or is missing
    UNVERIFIED = "unverified"  # the feed's, with nothing to check it by


@dataclass(frozen=True)
class Metric:
    """One derived metric: a value, or the reason why there is none.

    `vintage` names the inputs: the vintages of the statements in the formula's order (`-` where
    there is none), and after `@` the sessions of the prices.
    """

    company_id: int
    period_end_date: date
    name: MetricName
    value: Decimal | None
    null_reason: NullReason | None
    vintage: str


def stored(exact: Fraction, places: int = STORED_PLACES) -> Decimal:
    """The exact value as it is stored: rounded half away from zero."""
    doubled, denominator = 2 * abs(exact.numerator) * 10**places, exact.denominator
    units = (doubled + denominator) // (2 * denominator)
    digits = tuple(map(int, str(units)))
    return Decimal((1 if exact < 0 and units else 0, digits, -places))


def diluted_eps(
    reported_eps: Decimal | None,
    net_income: Decimal | None,
    shares_outstanding: Decimal | None,
) -> tuple[Decimal | None, EpsBasis | None]:
    """The diluted EPS of a quarter, per share, and what it rests on; (None, None) without any.

    Feeds give one EPS, often the "adjusted" one of the press release. Dilution only lowers what a
    share earns, and seldom by more than a twentieth; a reported EPS outside of that range of net
    income per share counts something else, and net income per share is taken instead.
    """
    reported = None if reported_eps is None else Fraction(reported_eps)
    if net_income is None or shares_outstanding is None or shares_outstanding <= 0:
        return (None, None) if reported is None else (reported_eps, EpsBasis.UNVERIFIED)
    derived = Fraction(net_income) / Fraction(shares_outstanding)
    if reported is not None:
        sign = -1 if derived < 0 else 1
        size = sign * derived
        if size * _DILUTED_FROM - _CENT <= sign * reported <= size * _DILUTED_TO + _CENT:
            return reported_eps, EpsBasis.REPORTED
    return stored(derived, _EPS_PLACES), EpsBasis.DERIVED
