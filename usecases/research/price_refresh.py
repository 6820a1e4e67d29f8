"""Refresh daily prices: only companies whose last closed session is missing.

    last closed session of each exchange → stale companies → bars and events → upsert → market cap

A bar of a session that has not closed is not stored. Where the vendor's adjusted closes of known
sessions moved (a split, a dividend, another vendor), the whole history is fetched again: momentum
must never compare closes of two adjustments. Rows that are as before are not written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from domain.research import ResearchJob
from models.database import fetch
from providers.market import CorporateAction, DailyBar, FailureClass, PriceHistory
from usecases.research.companies import refresh_market_cap
from usecases.research.metrics import bump_inputs
from usecases.research.sources import NoAnswer, answer_of, closed_session, tiers
from usecases.research.tiers import Answer
from usecases.research.work import (
    CompanyWork,
    ItemResult,
    checked,
    error,
    left_out,
    open_companies,
    source,
    unchanged,
    updated,
)

#: Known sessions that are asked for again, to see whether they were corrected or adjusted.
OVERLAP = timedelta(days=10)

#: Vendors round adjusted closes differently from day to day; a dividend moves them by more.
_ROUNDING = Decimal("0.0001")

_KNOWN = """
SELECT c.id::text, c.symbol, c.exchange, newest.session_date, overnight_now(),
       coalesce((SELECT jsonb_object_agg(p.session_date, p.adjusted_close::text) FROM daily_price p
        WHERE p.company_id = c.id AND p.session_date >= newest.session_date - %(overlap)s), '{}')
FROM company c LEFT JOIN LATERAL (
    SELECT session_date FROM daily_price p WHERE p.company_id = c.id
    ORDER BY session_date DESC LIMIT 1) AS newest ON true
WHERE c.id = ANY(%(ids)s::integer[]) AND c.active AND c.tracked
"""

_DUE = """
NOT EXISTS (SELECT 1 FROM daily_price p
            JOIN unnest(%(exchanges)s::text[], %(sessions)s::date[]) AS s (exchange, session)
                ON s.exchange = c.exchange
            WHERE p.company_id = c.id AND p.session_date >= s.session)
"""

_BARS = """
WITH given AS (
    SELECT * FROM unnest(%(day)s::date[], %(open)s::numeric[], %(high)s::numeric[],
        %(low)s::numeric[], %(close)s::numeric[], %(adjusted)s::numeric[], %(volume)s::bigint[])
        AS g (session_date, open, high, low, close, adjusted_close, volume)
), changed AS (
    INSERT INTO daily_price AS p (company_id, session_date, open, high, low, close,
                                  adjusted_close, volume, provider)
    SELECT %(company)s, g.*, %(provider)s FROM given g
    ON CONFLICT (company_id, session_date) DO UPDATE SET
        open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close,
        adjusted_close = excluded.adjusted_close, volume = excluded.volume,
        provider = excluded.provider, fetched_at = overnight_now()
    WHERE (p.open, p.high, p.low, p.close, p.adjusted_close, p.volume) IS DISTINCT FROM
        (excluded.open, excluded.high, excluded.low, excluded.close, excluded.adjusted_close,
         excluded.volume)
    RETURNING 1
)
SELECT count(*) FROM changed
"""

_ACTIONS = """
WITH changed AS (
    INSERT INTO corporate_action AS a (company_id, kind, effective_date, value, provider)
    SELECT %(company)s, g.*, %(provider)s
    FROM unnest(%(kind)s::text[], %(day)s::date[], %(value)s::numeric[]) AS g
    ON CONFLICT (company_id, kind, effective_date) DO UPDATE SET
        value = excluded.value, provider = excluded.provider, fetched_at = overnight_now()
    WHERE a.value IS DISTINCT FROM excluded.value
    RETURNING 1
)
SELECT count(*) FROM changed
"""


@dataclass(frozen=True)
class _Task:
    key: str
    symbol: str
    session: date | str  # the last that has closed; or why nobody knows it
    newest: date | None
    adjusted: Mapping[date, Decimal | None]  # of the overlap


class PriceRefresh(CompanyWork):
    """Bars since the newest known one, with an overlap."""

    job = ResearchJob.PRICE_REFRESH

    def open_items(self, run_id: str) -> None:
        """Companies without the last closed session; the others are counted as fresh."""
        [(now,)] = fetch("SELECT overnight_now()")
        exchanges = [row[0] for row in fetch("SELECT DISTINCT exchange FROM company")]
        known = {
            exchange: session
            for exchange in exchanges
            if isinstance(session := closed_session(exchange, now), date)
        }
        open_companies(
            run_id,
            self.job,
            due=_DUE,
            not_due="has the last closed session",
            params={"exchanges": list(known), "sessions": list(known.values())},
        )

    def calls(self, items: int) -> tuple[int, int | None]:
        """One each; a second one where the adjustment moved."""
        return items, 2 * items

    def load(self, keys: Sequence[str], prepared: Any) -> Mapping[str, _Task]:
        """The newest bar, and the adjusted closes before it."""
        tasks = {}
        for key, symbol, exchange, newest, now, adjusted in fetch(
            _KNOWN, {"ids": list(keys), "overlap": OVERLAP.days}
        ):
            overlap = {
                date.fromisoformat(day): None if value is None else Decimal(value)
                for day, value in adjusted.items()
            }
            session = closed_session(exchange, now)
            tasks[key] = _Task(key, symbol, session, newest, overlap)
        return tasks

    def ask(self, task: _Task) -> Answer[PriceHistory] | None:
        """New bars; all of them where the adjustment moved. None: nothing newer, or no calendar."""
        if isinstance(task.session, str):
            return None
        if task.newest is None:
            return answer_of(tiers().prices(task.symbol, None))
        try:
            found = answer_of(tiers().prices(task.symbol, task.newest - OVERLAP))
        except NoAnswer as none:
            if none.failed.failure_class is FailureClass.EMPTY:
                return None
            raise
        if _moved(task.adjusted, found.value.bars):
            return answer_of(tiers().prices(task.symbol, None))
        return found

    def record(self, task: _Task, answer: Answer[PriceHistory] | None) -> ItemResult:
        """Upsert what closed, and what follows from it."""
        if isinstance(task.session, str):
            return error("no trading calendar for its exchange", task.session)
        company_id = int(task.key)
        checked(company_id, self.job)
        if answer is None:
            return unchanged("the provider has no newer session", detail=f"newest: {task.newest}")
        bars = [bar for bar in answer.value.bars if bar.session_date <= task.session]
        written = write_bars(company_id, bars, answer.provider)
        actions = [a for a in answer.value.actions if a.effective_date <= task.session]
        written += write_actions(company_id, actions, answer.provider)
        if written:
            bump_inputs([company_id])
            refresh_market_cap(company_id)
        newest = max([bar.session_date for bar in bars], default=task.newest)
        told = f"{written} rows, newest: {newest}"
        if newest is None:
            return left_out("the provider has no closed session", **source(answer))
        if newest < task.session and (task.newest is None or newest <= task.newest):
            if not written:
                return unchanged("the provider has no newer session", detail=told, **source(answer))
        elif not written:
            return unchanged("as known", detail=told, **source(answer))
        return updated(told, **source(answer))


def _moved(known: Mapping[date, Decimal | None], bars: Sequence[DailyBar]) -> bool:
    """Whether adjusted closes of known sessions are no longer what they were."""
    for bar in bars:
        before = known.get(bar.session_date)
        if before is None or bar.adjusted_close is None:
            continue
        if abs(bar.adjusted_close - before) > before * _ROUNDING:
            return True
    return False


def write_bars(company_id: int, bars: Sequence[DailyBar], provider: str) -> int:
    """Upsert bars in the open transaction; returns how many rows changed."""
    if not bars:
        return 0
    by_day = {bar.session_date: bar for bar in bars}  # twice in one answer: the last one counts
    rows = list(by_day.values())
    [(changed,)] = fetch(
        _BARS,
        {
            "company": company_id,
            "provider": provider,
            "day": _array(by_day),
            "open": _array(bar.open for bar in rows),
            "high": _array(bar.high for bar in rows),
            "low": _array(bar.low for bar in rows),
            "close": _array(bar.close for bar in rows),
            "adjusted": _array(bar.adjusted_close for bar in rows),
            "volume": _array(bar.volume for bar in rows),
        },
    )
    return int(changed)


def write_actions(company_id: int, actions: Sequence[CorporateAction], provider: str) -> int:
    """Upsert splits and dividends in the open transaction; returns how many rows changed."""
    if not actions:
        return 0
    by_key = {(action.kind, action.effective_date): action for action in actions}
    rows = list(by_key.values())
    [(changed,)] = fetch(
        _ACTIONS,
        {
            "company": company_id,
            "provider": provider,
            "kind": _array(row.kind for row in rows),
            "day": _array(row.effective_date for row in rows),
            "value": _array(row.value for row in rows),
        },
    )
    return int(changed)


def _array(values: Any) -> str:
    """PostgreSQL's own text of an array of numbers, dates or plain words: quick to make."""
    return "{" + ",".join("NULL" if value is None else str(value) for value in values) + "}"
