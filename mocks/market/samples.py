"""Write the project's own golden copy: Apple, Microsoft, and invented companies with the traps.

    python -m mocks.market.samples [FOLDER]

The same bytes every time: a test compares the folder in the repository with what this writes.
"""

import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

from domain.trading_days import sessions
from mocks.market.figures import APPLE, MICROSOFT, quarters_of, years_of
from mocks.market.folder import CALENDAR_FILE, GOLDEN
from mocks.market.generate import (
    AS_OF,
    BARS,
    CALENDAR_HEADER,
    QUARTERS,
    bar_of,
    calendar_line,
    invented,
    quarter_ends,
    write_rates,
)
from mocks.market.sample_documents import write_documents
from mocks.market.shapes import SampleBar, SampleCompany, write_company, write_statements

#: How many coming reports a company has announced: more than any real one, so that there are
#: some in the future for years to come.
CALENDAR_QUARTERS = 40
SPLIT_ON = date(2024, 7, 15)


def write_samples(folder: Path) -> None:
    """Write every sample company, the calendar, documents and rates."""
    days = sessions("NYSE", AS_OF - timedelta(days=BARS * 2), AS_OF)[-BARS:]
    first, second = companies(days), second_tier(days)
    for company in first:
        write_company(folder, company)
    for company in second:
        write_company(folder / "second_tier", company)
    write_statements(folder / "RSTD" / "restated", restated(first[2]))
    write_documents(folder)
    lines = [CALENDAR_HEADER]
    for company in first:
        if company.symbol == "IPOX":
            continue  # has announced nothing
        newest = company.quarters[-1]
        assert newest.reported is not None
        for ahead in range(1, CALENDAR_QUARTERS + 1):
            later = timedelta(weeks=13 * ahead)
            lines.append(calendar_line(company, newest.reported + later, newest.ends + later))
    (folder / CALENDAR_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_rates(folder, days, random.Random("sample fx"))  # noqa: S311 - replayable


def companies(days: Sequence[date]) -> list[SampleCompany]:
    """The first tier's."""
    apple, microsoft = quarters_of(APPLE), quarters_of(MICROSOFT)
    timber = _invented("SPLT", "Splitwood Timber Corp", "NYSE", days)
    stores = _invented("JANX", "January Stores Inc", "NYSE", days, ends=_january_ends())
    textiles_days = sessions("NSE", days[0], AS_OF)
    textiles = _invented("DHARA.NSE", "Dhara Textiles Ltd", "NSE", textiles_days)
    biotech = _invented("LOSS", "Lossmaker Biotech Inc", "NASDAQ", days)
    gap = _invented("GAPQ", "Gap Quarter Holdings", "NYSE", days)
    shipping = _invented("XCUR", "Crosscurrency Shipping ADR", "NYSE", days)
    listed = _invented("IPOX", "Newly Listed Systems Inc", "NASDAQ", days[-40:])
    return [
        SampleCompany(
            symbol="AAPL",
            name="Apple Inc",
            exchange="NASDAQ",
            currency="USD",
            cik="320193",
            fiscal_year_end="September",
            quarters=apple,
            annuals=years_of(apple, 0),
            bars=_between("AAPL", days, 16822, 22987),
            dividends=_paid("0.24 2024-02-09", "0.25 2024-05-10 2024-08-12 2024-11-08"),
            raw_prices=True,
        ),
        SampleCompany(
            symbol="MSFT",
            name="Microsoft Corporation",
            exchange="NASDAQ",
            currency="USD",
            cik="789019",
            fiscal_year_end="June",
            quarters=microsoft,
            annuals=years_of(microsoft, 3),
            bars=_between("MSFT", days, 32981, 41700),
            dividends=_paid("0.75 2024-02-14 2024-05-15 2024-08-15", "0.83 2024-11-21"),
            raw_prices=True,
        ),
        _invented("RSTD", "Restated Robotics Inc", "NYSE", days),
        _split(timber),
        replace(
            stores,
            fiscal_year_end="January",
            quarters=[
                *stores.quarters[:-1],
                replace(stores.quarters[-1], reported=AS_OF - timedelta(days=1)),
            ],
        ),
        replace(
            textiles,
            currency="INR",
            cik=None,
            fiscal_year_end="March",
            quarters=[replace(each, currency="INR") for each in textiles.quarters],
        ),
        replace(
            biotech,
            quarters=[
                replace(each, net_income=-abs(_int(each.net_income)), eps=-abs(_eps(each.eps)))
                for each in [
                    *biotech.quarters[:-6],
                    replace(biotech.quarters[-6], revenue=0, gross_profit=0),
                    *(replace(q, capital_expenditure=None) for q in biotech.quarters[-5:]),
                ]
            ],
        ),
        replace(gap, quarters=[q for q in gap.quarters if q is not gap.quarters[-4]]),
        replace(shipping, quarters=[replace(q, currency="JPY") for q in shipping.quarters]),
        replace(listed, quarters=listed.quarters[-3:], has_balance_sheet=False),
    ]


def second_tier(days: Sequence[date]) -> list[SampleCompany]:
    """What only the second tier has."""
    return [_invented("SECND", "Second Tier Metals Corp", "NYSE", days)]


def restated(company: SampleCompany) -> SampleCompany:
    """The quarter of last year's third from the end, with a sixth more revenue than was reported.

    It is the base of a later quarter's growth, which changes with it.
    """
    at = len(company.quarters) - 7
    old = company.quarters[at]
    more = _int(old.revenue) // 6
    new = replace(
        old,
        revenue=_int(old.revenue) + more,
        gross_profit=_int(old.gross_profit) + more,
        operating_income=_int(old.operating_income) + more,
    )
    return replace(company, quarters=[*company.quarters[:at], new, *company.quarters[at + 1 :]])


def _invented(
    symbol: str,
    name: str,
    exchange: str,
    days: Sequence[date],
    ends: Sequence[date] | None = None,
) -> SampleCompany:
    draw = random.Random(symbol)  # noqa: S311 - replayable
    base = invented(0, draw, ends or quarter_ends(AS_OF, QUARTERS), days)
    return replace(base, symbol=symbol, name=name, exchange=exchange, cik=None)


def _january_ends() -> list[date]:
    """Thirteen weeks each, and fourteen once in the year that ended on 2024-02-03."""
    ends = [date(2020, 2, 1)]
    while len(ends) < QUARTERS:
        weeks = 14 if ends[-1] == date(2023, 10, 28) else 13
        ends.append(ends[-1] + timedelta(weeks=weeks))
    return ends


def _split(company: SampleCompany) -> SampleCompany:
    """Three new shares for one old: what was reported before knows nothing of it."""
    before = [each for each in company.quarters if each.ends < SPLIT_ON]
    after = [each for each in company.quarters if each.ends >= SPLIT_ON]
    bars = [_times(bar, 3) if bar.session < SPLIT_ON else bar for bar in company.bars]
    old = [replace(q, shares=_int(q.shares) // 3, eps=_eps(q.eps) * 3) for q in before]
    return replace(company, quarters=[*old, *after], bars=bars, splits={SPLIT_ON: Decimal("3.0")})


def _times(bar: SampleBar, factor: int) -> SampleBar:
    cents = [int(Decimal(text) * 100) * factor for text in (bar.open, bar.high, bar.low, bar.close)]
    return bar_of(bar.session, cents[0], cents[1], cents[2], cents[3], bar.volume // factor)


def _between(symbol: str, days: Sequence[date], first: int, last: int) -> list[SampleBar]:
    """Prices that wander from `first` to `last` cents: the ends are public, the way is invented."""
    draw = random.Random(symbol)  # noqa: S311 - replayable
    swing, bars, opens = 0.0, [], first
    for index, day in enumerate(days):
        done = index / (len(days) - 1)
        swing = (swing + draw.gauss(0, 0.012)) * 0.97
        calm = min(1.0, 20 * done, 20 * (1 - done))  # no swing at either end
        close = round((first + (last - first) * done) * (1 + swing * calm))
        low, high = min(opens, close), max(opens, close)
        bars.append(
            bar_of(day, opens, high + 50, low - 50, close, 40_000_000 + draw.getrandbits(24))
        )
        opens = close
    return bars


def _paid(*told: str) -> dict[date, Decimal]:
    lines = [line.split() for line in told]
    return {date.fromisoformat(day): Decimal(amount) for amount, *days in lines for day in days}


def _int(value: Decimal | int | None) -> int:
    assert value is not None
    return int(value)


def _eps(value: Decimal | int | None) -> Decimal:
    assert value is not None
    return Decimal(value)


if __name__ == "__main__":
    write_samples(Path(sys.argv[1]) if len(sys.argv) > 1 else GOLDEN)
