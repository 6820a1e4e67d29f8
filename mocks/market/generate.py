"""Write a golden copy of N invented companies, for tests and benchmarks.

    python -m mocks.market.generate FOLDER --companies N --seed S

The same N and seed give the same bytes; company i is the same whatever N is.
"""

import argparse
import random
from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

from domain.trading_days import sessions
from mocks.market.folder import CALENDAR_FILE
from mocks.market.shapes import SampleBar, SampleCompany, SampleQuarter, write_company

AS_OF = date(2024, 11, 22)
QUARTERS = 20
BARS = 270

_ENDS = ((3, 31), (6, 30), (9, 30), (12, 31))
CALENDAR_HEADER = "symbol,name,reportDate,fiscalDateEnding,estimate,currency,timeOfTheDay"
CURRENCIES = {"USD": 1.05, "INR": 88.0, "GBP": 0.83, "JPY": 162.0}


def generate(
    folder: Path, companies: int, seed: int = 1, *, as_of: date = AS_OF, bars: int = BARS
) -> list[str]:
    """Write the companies, their calendar and a year of rates; returns the symbols."""
    folder.mkdir(parents=True, exist_ok=True)
    days = sessions("NYSE", as_of - timedelta(days=bars * 2), as_of)[-bars:]
    ends = quarter_ends(as_of, QUARTERS)
    symbols, calendar = [], [CALENDAR_HEADER]
    for index in range(companies):
        company = invented(index, random.Random(f"{seed}:{index}"), ends, days)  # noqa: S311 - replayable
        write_company(folder, company)
        symbols.append(company.symbol)
        reports = as_of + timedelta(days=1 + index % 90)
        calendar.append(calendar_line(company, reports, ends[-1] + timedelta(days=92)))
    (folder / CALENDAR_FILE).write_text("\n".join(calendar) + "\n", encoding="utf-8")
    write_rates(folder, days, random.Random(f"{seed}:fx"))  # noqa: S311 - replayable
    return symbols


def quarter_ends(as_of: date, count: int) -> list[date]:
    """The last `count` calendar quarters that ended three weeks or more before `as_of`."""
    ends = [date(as_of.year - back, month, day) for back in range(count) for month, day in _ENDS]
    return sorted(end for end in ends if end <= as_of - timedelta(days=21))[-count:]


def invented(
    index: int, draw: random.Random, ends: Sequence[date], days: Sequence[date]
) -> SampleCompany:
    """A company that grows or shrinks, with margins and debts of its own."""
    symbol = f"SMP{index:05d}"
    revenue = draw.lognormvariate(20, 1.5)
    growth, gross = draw.gauss(1.02, 0.03), draw.uniform(0.2, 0.8)
    operating = gross * draw.uniform(-0.1, 0.6)
    shares = round(draw.lognormvariate(19, 1))
    quarters = []
    for end in ends:
        revenue *= growth * draw.gauss(1, 0.04)
        income = round(revenue * operating * draw.uniform(0.6, 0.9))
        quarters.append(
            SampleQuarter(
                ends=end,
                reported=end + timedelta(days=draw.randint(18, 45)),
                revenue=round(revenue),
                gross_profit=round(revenue * gross),
                operating_income=round(revenue * operating),
                net_income=income,
                operating_cash_flow=round(income * draw.uniform(0.8, 1.6)),
                capital_expenditure=round(revenue * draw.uniform(0.01, 0.1)),
                eps=Decimal(round(100 * income / shares)) / 100,
                cash=round(revenue * draw.uniform(0.1, 2)),
                short_term_debt=round(revenue * draw.uniform(0, 0.3)),
                long_term_debt=round(revenue * draw.uniform(0, 2)),
                shares=shares,
            )
        )
    return SampleCompany(
        symbol=symbol,
        name=f"Sample Company {index}",
        exchange=draw.choice(("NYSE", "NASDAQ")),
        currency="USD",
        cik=str(9_000_000 + index),
        fiscal_year_end="December",
        quarters=quarters,
        bars=walk(draw, days, cents=draw.randint(500, 50_000)),
    )


def walk(draw: random.Random, days: Sequence[date], cents: int) -> list[SampleBar]:
    """Prices that wander from `cents`, never below one."""
    bars = []
    for day in days:
        opens = cents
        cents = max(1, round(cents * draw.gauss(1.0004, 0.015)))
        low, high = min(opens, cents), max(opens, cents)
        bars.append(bar_of(day, opens, high, low, cents, 100_000 + draw.getrandbits(22)))
    return bars


def bar_of(day: date, opens: int, high: int, low: int, close: int, volume: int) -> SampleBar:
    """A bar of prices in cents."""
    texts = [f"{cents // 100}.{cents % 100:02d}00" for cents in (opens, high, low, close)]
    return SampleBar(day, texts[0], texts[1], texts[2], texts[3], volume)


def calendar_line(company: SampleCompany, reports: date, covers: date) -> str:
    """A coming report of the quarter that ends on `covers`."""
    name = company.name.replace(",", "").upper()
    return f"{company.symbol},{name},{reports},{covers},,{company.currency},post-market"


def write_rates(folder: Path, days: Sequence[date], draw: random.Random) -> None:
    """fx/eurofxref-hist.xml and eurofxref-daily.xml, as the ECB writes them."""
    rates, cubes = dict(CURRENCIES), []
    for day in days:
        rates = {name: rate * draw.gauss(1, 0.003) for name, rate in rates.items()}
        lines = "".join(f'<Cube currency="{n}" rate="{r:.4f}"/>' for n, r in rates.items())
        cubes.append(f'<Cube time="{day}">{lines}</Cube>')
    (folder / "fx").mkdir(exist_ok=True)
    for name, chosen in (("hist", cubes[::-1]), ("daily", cubes[-1:])):
        body = "\n".join(chosen)
        text = (
            '<?xml version="1.0" encoding="UTF-8"?>\n<gesmes:Envelope'
            ' xmlns:gesmes="http://www.gesmes.org/xml/2002-08-01"'
            ' xmlns="http://www.ecb.int/vocabulary/2002-08-01/eurofxref">'
            "<gesmes:subject>Sample data, not the ECB's</gesmes:subject>\n"
            f"<Cube>\n{body}\n</Cube></gesmes:Envelope>\n"
        )
        (folder / "fx" / f"eurofxref-{name}.xml").write_text(text, encoding="utf-8")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m mocks.market.generate", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--companies", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--as-of", type=date.fromisoformat, default=AS_OF)
    parser.add_argument("--bars", type=int, default=BARS)
    given = parser.parse_args()
    made = generate(given.folder, given.companies, given.seed, as_of=given.as_of, bars=given.bars)
    print(f"{len(made)} companies in {given.folder}: MOCK_DATA_PATH={given.folder}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
