"""Refresh exchange rates: every day since the newest known one, in one call.

newest known day → rates since → upsert (what did not change is not written)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from domain.research import ResearchJob
from models.database import execute, fetch
from providers.market import FxRate
from usecases.research.sources import answer_of, tiers
from usecases.research.tiers import Answer
from usecases.research.work import CompanyWork, ItemResult, source, unchanged, updated

#: The run's only item.
RATES = "rates"

#: The first time, and for corrections of what is known.
OVERLAP = timedelta(days=7)

_NEWEST = "SELECT max(rate_date) FROM fx_rate"

_WRITE = """
WITH changed AS (
    INSERT INTO fx_rate AS f (base, quote, rate_date, rate, provider)
    SELECT g.*, %(provider)s
    FROM unnest(%(base)s::text[], %(quote)s::text[], %(day)s::date[], %(rate)s::numeric[]) AS g
    ON CONFLICT (base, quote, rate_date) DO UPDATE SET
        rate = excluded.rate, provider = excluded.provider, fetched_at = overnight_now()
    WHERE f.rate IS DISTINCT FROM excluded.rate
    RETURNING 1
)
SELECT count(*) FROM changed
"""

#: Currencies that companies trade or report in and that have no rate against the euro.
_WITHOUT = """
SELECT currency FROM (SELECT currency FROM company WHERE active AND tracked
                      UNION SELECT currency FROM statement WHERE is_current) AS needed
WHERE currency NOT IN (SELECT quote FROM fx_rate UNION SELECT base FROM fx_rate) ORDER BY 1
"""


@dataclass(frozen=True)
class _Task:
    key: str
    newest: date | None


class FxRefresh(CompanyWork):
    """One item: the provider answers for all currencies at once."""

    job = ResearchJob.FX_REFRESH

    def open_items(self, run_id: str) -> None:
        """The one item."""
        sql = "INSERT INTO job_run_item (run_id, item_key, position) VALUES (%s, %s, 1)"
        execute(sql, (run_id, RATES))

    def calls(self, items: int) -> tuple[int, int | None]:
        """One."""
        return items, items

    def load(self, keys: Sequence[str], prepared: Any) -> Mapping[str, _Task]:
        """The newest day that is known."""
        [(newest,)] = fetch(_NEWEST)
        return {RATES: _Task(RATES, newest)}

    def ask(self, task: _Task) -> Answer[Sequence[FxRate]]:
        """Rates since then; the first time, of the newest day only."""
        since = None if task.newest is None else task.newest - OVERLAP
        return answer_of(tiers().rates(since))

    def record(self, task: _Task, answer: Answer[Sequence[FxRate]]) -> ItemResult:
        """Upsert them."""
        by_key = {(r.base, r.quote, r.rate_date): r for r in answer.value}
        rates = list(by_key.values())
        [(changed,)] = fetch(
            _WRITE,
            {
                "provider": answer.provider,
                "base": [rate.base for rate in rates],
                "quote": [rate.quote for rate in rates],
                "day": [rate.rate_date for rate in rates],
                "rate": [rate.rate for rate in rates],
            },
        )
        newest = max((rate.rate_date for rate in rates), default=task.newest)
        detail = f"{changed} rows, newest: {newest}"
        if missing := [row[0] for row in fetch(_WITHOUT)]:
            detail += f"; no rate for {', '.join(missing)}"
        if not changed:
            return unchanged("as known", detail=detail, **source(answer))
        return updated(detail, **source(answer))
