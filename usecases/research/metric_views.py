"""Derived metrics as people and programs read them: one company's, or all of them as rows.

    derived_metric → show (newest period first) | export (company, period, metric, value, reason)

A row without a value says why; nothing is left out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from domain.research import MetricName
from models.database import fetch
from models.research import Company

#: Companies per query: an export is longer than memory should hold.
_PAGE = 200

_OF_COMPANY = """
SELECT period_end_date, metric_name, value, null_reason, vintage, computed_at
FROM derived_metric WHERE company_id = %(id)s AND period_end_date IN (
    SELECT DISTINCT period_end_date FROM derived_metric WHERE company_id = %(id)s
    ORDER BY 1 DESC LIMIT %(periods)s)
ORDER BY period_end_date DESC, array_position(%(names)s, metric_name)
"""

_EXPORT = """
SELECT c.symbol, m.period_end_date, m.metric_name, m.value, m.null_reason
FROM derived_metric m JOIN company c ON c.id = m.company_id
WHERE c.symbol = ANY(%(symbols)s)
ORDER BY c.symbol, m.period_end_date, array_position(%(names)s, m.metric_name)
"""

_SYMBOLS = """
SELECT symbol FROM company WHERE symbol > %s ORDER BY symbol LIMIT %s
"""

#: The columns of an export, in their order.
EXPORT_COLUMNS = ("company", "period_end_date", "metric_name", "value", "null_reason")

_NAMES = [name.value for name in MetricName]


@dataclass(frozen=True)
class MetricValue:
    """One metric of one period: a value, or why there is none."""

    period_end_date: date
    metric_name: str
    value: Decimal | None
    null_reason: str | None
    vintage: str
    computed_at: datetime


def metrics_of(symbol: str, periods: int = 4) -> Sequence[MetricValue]:
    """The metrics of a company's newest periods. Raises NotFound for the company."""
    company = Company.load(symbol)
    params = {"id": company.id, "periods": periods, "names": _NAMES}
    return [MetricValue(*row) for row in fetch(_OF_COMPANY, params)]


def export_rows(symbols: Sequence[str] = ()) -> Iterator[tuple[str, date, str, Decimal, str]]:
    """All metrics, of all companies or of some; by company, period and metric."""
    if symbols:
        known = [Company.load(symbol).symbol for symbol in symbols]
        yield from fetch(_EXPORT, {"symbols": known, "names": _NAMES})
        return
    after = ""
    while page := [symbol for (symbol,) in fetch(_SYMBOLS, (after, _PAGE))]:
        yield from fetch(_EXPORT, {"symbols": page, "names": _NAMES})
        after = page[-1]
