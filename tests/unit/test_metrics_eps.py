"""Which EPS a quarter gets, and how values are rounded. Figures: Apple and IBM, SEC filings."""

from decimal import Decimal
from fractions import Fraction

import pytest

from domain.metrics import EpsBasis, diluted_eps, stored

_MILLION = 10**6


def _eps(reported: str | None, income_m: str | None, shares_m: str | None) -> tuple[object, object]:
    return diluted_eps(
        None if reported is None else Decimal(reported),
        None if income_m is None else Decimal(income_m) * _MILLION,
        None if shares_m is None else Decimal(shares_m) * _MILLION,
    )


@pytest.mark.parametrize(
    ("reported", "income_m", "shares_m"),
    [
        ("13.81", "13078", "938.973"),  # Apple, 2012-12-29: options dilute by 0.85 %
        ("2.77", "2532", "899.8055"),  # Apple, 2009-09-26: by 1.56 %
        ("4.18", "5257", "1258.4"),  # IBM, 2010-12-31: per share 4.1775, in cents 4.18
        ("0.01", "1", "1000"),  # cents are coarse: 0.001 is reported as 0.00 or 0.01
        ("-1.00", "-1000", "1000"),  # a loss is not diluted
        ("-0.97", "-1000", "1000"),
        ("0.94", "1000", "1000"),
        ("1.015", "1000", "1000"),
    ],
)
def test_what_dilution_explains_is_the_reported_eps(
    reported: str, income_m: str, shares_m: str
) -> None:
    assert _eps(reported, income_m, shares_m) == (Decimal(reported), EpsBasis.REPORTED)


@pytest.mark.parametrize(
    ("reported", "income_m", "shares_m", "expected"),
    [
        ("5.39", "5833", "1136.4", "5.1329"),  # IBM, 2012-12-31: the press release's "operating"
        ("4.71", "5490", "1188.7", "4.6185"),  # IBM, 2011-12-31: only 2 % more
        ("0.50", "-1000", "1000", "-1.0000"),  # a loss that was adjusted away
        ("-0.50", "-1000", "1000", "-1.0000"),
        ("-1.02", "-1000", "1000", "-1.0000"),
        ("0.93", "1000", "1000", "1.0000"),
        (None, "1000", "3000", "0.3333"),
        (None, "2000", "3000", "0.6667"),
    ],
)
def test_anything_else_is_net_income_per_share(
    reported: str | None, income_m: str, shares_m: str, expected: str
) -> None:
    assert _eps(reported, income_m, shares_m) == (Decimal(expected), EpsBasis.DERIVED)


@pytest.mark.parametrize(
    ("income_m", "shares_m"), [(None, "1000"), ("1000", None), (None, None), ("1000", "0")]
)
def test_without_shares_or_income_the_reported_eps_is_unverified(
    income_m: str | None, shares_m: str | None
) -> None:
    assert _eps("1.79", income_m, shares_m) == (Decimal("1.79"), EpsBasis.UNVERIFIED)
    assert _eps(None, income_m, shares_m) == (None, None)


@pytest.mark.parametrize(
    ("exact", "expected"),
    [
        (Fraction(1, 3), "0.333333333333"),
        (Fraction(2, 3), "0.666666666667"),
        (Fraction(-2, 3), "-0.666666666667"),
        (Fraction(5, 10**13), "0.000000000001"),  # half a unit: away from zero
        (Fraction(-5, 10**13), "-0.000000000001"),
        (Fraction(5 * 10**20 - 1, 10**33), "0.000000000000"),  # one look, not two roundings
        (Fraction(10**40), f"1{'0' * 40}.000000000000"),
    ],
)
def test_a_value_is_rounded_once_to_twelve_places(exact: Fraction, expected: str) -> None:
    assert format(stored(exact), "f") == expected
