"""Companies: whom research follows.

add (what the provider knows, or what a person says) → company → every night
deactivate (no longer listed), untrack (not wanted): rows stay, nights pass over them
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from domain.errors import InvalidInput, NotFound
from domain.trading_days import EXCHANGES
from models.database import execute, fetch, transaction
from models.research import Company
from usecases.research.metrics import bump_inputs
from usecases.research.sources import NoAnswer, NotNow, answer_of, tiers

_SYMBOL = re.compile(r"[A-Z0-9][A-Z0-9.\-^=]{0,31}")
_CURRENCY = re.compile(r"[A-Z]{3}")

_INSERT = """
INSERT INTO company (symbol, name, exchange, currency, cik, shares_outstanding, shares_as_of)
VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (symbol) DO NOTHING RETURNING id
"""

_LIST = """
SELECT c.symbol, c.name, c.exchange, c.currency, c.active, c.tracked, c.next_earnings_date,
       c.market_cap, c.market_cap_on,
       (SELECT max(session_date) FROM daily_price p WHERE p.company_id = c.id),
       (SELECT max(period_end_date) FROM statement s
        WHERE s.company_id = c.id AND is_current AND period_type = 'quarter')
FROM company c {where} ORDER BY c.symbol
"""

_CHECKS = """
SELECT job, checked_at FROM research_check WHERE company_id = %s ORDER BY job
"""

_COUNTS = """
SELECT (SELECT count(*) FROM daily_price WHERE company_id = %(id)s),
       (SELECT count(*) FROM statement WHERE company_id = %(id)s AND is_current),
       (SELECT count(*) FROM statement WHERE company_id = %(id)s AND NOT is_current),
       (SELECT count(*) FROM document WHERE company_id = %(id)s),
       (SELECT count(*) FROM derived_metric WHERE company_id = %(id)s AND value IS NOT NULL),
       (SELECT count(*) FROM derived_metric WHERE company_id = %(id)s AND value IS NULL)
"""

#: Last raw close × shares. Where one is missing the old value stays, and says why.
_MARKET_CAP = """
UPDATE company c SET
    market_cap = CASE WHEN problem IS NULL THEN last.close * c.shares_outstanding
                 ELSE c.market_cap END,
    market_cap_on = CASE WHEN problem IS NULL THEN last.session_date ELSE c.market_cap_on END,
    market_cap_note = problem
FROM company self
LEFT JOIN LATERAL (SELECT close, session_date FROM daily_price WHERE company_id = self.id
                   ORDER BY session_date DESC LIMIT 1) AS last ON true
CROSS JOIN LATERAL (SELECT CASE
    WHEN self.shares_outstanding IS NULL THEN 'shares outstanding are not known'
    WHEN last.close IS NULL THEN 'no price is known' END) AS of (problem)
WHERE self.id = %s AND c.id = self.id AND (
    c.market_cap_note IS DISTINCT FROM problem OR (problem IS NULL
    AND (c.market_cap, c.market_cap_on)
        IS DISTINCT FROM (last.close * c.shares_outstanding, last.session_date)))
"""


@dataclass(frozen=True)
class CompanyRow:
    """A company in a list. `last_session`, `last_quarter`: the newest that are stored."""

    symbol: str
    name: str
    exchange: str
    currency: str
    active: bool
    tracked: bool
    next_earnings_date: date | None
    market_cap: Decimal | None
    market_cap_on: date | None
    last_session: date | None
    last_quarter: date | None


@dataclass(frozen=True)
class CompanyDetail:
    """One company with what is stored about it."""

    company: CompanyRow
    cik: str | None
    shares_outstanding: Decimal | None
    shares_as_of: date | None
    market_cap_note: str | None
    last_report_date: date | None
    sessions: int
    statements: int
    superseded_statements: int
    documents: int
    metrics: int
    metrics_without_value: int
    checked: dict[str, datetime]


@dataclass(frozen=True)
class Given:
    """What a person says about a company; None: the provider's word."""

    name: str | None = None
    exchange: str | None = None
    currency: str | None = None
    cik: str | None = None


def add_company(symbol: str, given: Given | None = None) -> bool:
    """Follow a company; True if it is new, False if it was followed or is so again.

    Asks the provider for what is not given.

    Raises:
        InvalidInput: a field that cannot be; the message names it.
        NotFound: no provider knows the symbol, and not everything was given.
    """
    symbol = symbol.strip().upper()
    if not _SYMBOL.fullmatch(symbol):
        raise InvalidInput(f"symbol: letters, digits, dots and dashes, not {symbol!r}")
    if fetch("SELECT 1 FROM company WHERE symbol = %s", (symbol,)):
        execute("UPDATE company SET active = true, tracked = true WHERE symbol = %s", (symbol,))
        return False
    row = _row(symbol, given or Given())
    with transaction():
        added = fetch(_INSERT, row)
        bump_inputs([int(company_id) for (company_id,) in added])
    return bool(added)


def _row(symbol: str, given: Given) -> tuple[Any, ...]:
    name, exchange, currency = given.name, given.exchange, given.currency
    cik, shares, as_of = given.cik, None, None
    if not (name and exchange and currency):
        try:
            found = answer_of(tiers().overview(symbol)).value
        except NoAnswer as none:
            raise NotFound(
                f"no provider knows {symbol} ({none}): check the symbol, or give --name,"
                " --exchange and --currency"
            ) from None
        except NotNow as later:
            raise NotFound(f"no provider can be asked about {symbol} now: {later}") from None
        name, exchange = name or found.name, exchange or found.exchange
        currency, cik = currency or found.currency, cik or found.cik
        shares, as_of = found.shares_outstanding, found.latest_quarter
    exchange, currency = exchange.strip().upper(), currency.strip().upper()
    if exchange not in EXCHANGES:
        raise InvalidInput(
            f"exchange: no trading calendar for {exchange!r}; known are {', '.join(EXCHANGES)}"
        )
    if not _CURRENCY.fullmatch(currency):
        raise InvalidInput(f"currency: three letters such as USD, not {currency!r}")
    return symbol, name.strip(), exchange, currency, cik, shares, as_of


def set_followed(
    symbol: str, *, active: bool | None = None, tracked: bool | None = None
) -> CompanyRow:
    """Say that a company is listed or wanted, or no longer. Raises NotFound."""
    company = Company.load(symbol)
    if active is not None:
        execute("UPDATE company SET active = %s WHERE id = %s", (active, company.id))
    if tracked is not None:
        execute("UPDATE company SET tracked = %s WHERE id = %s", (tracked, company.id))
    return show_company(symbol).company


def list_companies(*, everyone: bool = True) -> Sequence[CompanyRow]:
    """All companies, or those that nights work for."""
    where = "" if everyone else "WHERE c.active AND c.tracked"
    return [CompanyRow(*row) for row in fetch(_LIST.format(where=where))]


def has_companies() -> bool:
    """Whether there is any company, followed or not."""
    return bool(fetch("SELECT 1 FROM company LIMIT 1"))


def show_company(symbol: str) -> CompanyDetail:
    """One company. Raises NotFound."""
    company = Company.load(symbol)
    [row] = fetch(_LIST.format(where="WHERE c.id = %s"), (company.id,))
    [(sessions, statements, superseded, documents, metrics, without)] = fetch(
        _COUNTS, {"id": company.id}
    )
    return CompanyDetail(
        CompanyRow(*row),
        company.cik,
        company.shares_outstanding,
        company.shares_as_of,
        company.market_cap_note,
        company.last_report_date,
        sessions,
        statements,
        superseded,
        documents,
        metrics,
        without,
        dict(fetch(_CHECKS, (company.id,))),
    )


def refresh_market_cap(company_id: int) -> bool:
    """Bring the market cap up to its inputs, in the open transaction; True if it changed."""
    return execute(_MARKET_CAP, (company_id,)) > 0
