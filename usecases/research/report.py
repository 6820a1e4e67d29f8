"""The morning report: what a night did, what it left out and why, and how fresh the data is now.

    job_run, job_run_item → per job: outcome, counts, reasons, providers → staleness, budgets

It is read from the rows that the night committed, so it says what is true, also while it runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from domain.budgets import UNLIMITED
from domain.errors import NotFound
from domain.slots import SCHEDULES
from models.database import fetch
from providers.ports import market_ports
from usecases.research.budgets import usage
from usecases.research.sources import closed_session

#: A night belongs to the day on which it began where the schedule is.
ZONE = next(schedule.zone for schedule in SCHEDULES if schedule.name == "nightly")

#: How many items are named as examples of a reason.
EXAMPLES = 3

_NIGHTS = """
SELECT nightly_id::text, min(trigger), min(slot_id), min(created_at) FROM job_run
WHERE %(day)s::date IS NULL OR (created_at AT TIME ZONE %(zone)s)::date = %(day)s
GROUP BY nightly_id
ORDER BY bool_and(outcome IS NOT DISTINCT FROM 'refused'), min(created_at) DESC LIMIT %(limit)s
"""

#: Counts come from the items, so that a run under way has them too.
_RUNS = """
SELECT r.id::text, r.job, r.outcome, r.reason, r.started_at, r.finished_at,
       count(i.*) FILTER (WHERE i.status = 'waiting'),
       count(i.*) FILTER (WHERE i.status = 'updated'),
       count(i.*) FILTER (WHERE i.status = 'skipped'),
       count(i.*) FILTER (WHERE i.status = 'error'),
       count(i.*) FILTER (WHERE i.left_out)
FROM job_run r LEFT JOIN job_run_item i ON i.run_id = r.id
WHERE r.nightly_id = %s GROUP BY r.id ORDER BY r.position
"""

_REASONS = """
SELECT i.run_id::text, i.status, i.left_out, i.reason, count(*),
       (array_agg(coalesce(c.symbol, i.item_key) ORDER BY i.position))[1:%(examples)s],
       (array_agg(i.detail ORDER BY i.position) FILTER (WHERE i.detail IS NOT NULL))[1]
FROM job_run_item i JOIN job_run r ON r.id = i.run_id
LEFT JOIN company c ON i.item_key ~ '^[0-9]+$' AND c.id::text = i.item_key
WHERE r.nightly_id = %(night)s AND i.reason IS NOT NULL AND i.status <> 'waiting'
GROUP BY i.run_id, i.status, i.left_out, i.reason
ORDER BY i.run_id, i.status, count(*) DESC, i.reason
"""

_PROVIDERS = """
SELECT run_id::text, i.provider, i.provider_reason, count(*) FROM job_run_item i
JOIN job_run r ON r.id = run_id
WHERE r.nightly_id = %s AND i.provider IS NOT NULL
GROUP BY 1, 2, 3 ORDER BY 1, 4 DESC, 2
"""

_SESSIONS = """
SELECT c.exchange, p.newest, count(*), (array_agg(c.symbol ORDER BY c.symbol))[1:%s]
FROM company c LEFT JOIN LATERAL (
    SELECT max(session_date) AS newest FROM daily_price WHERE company_id = c.id) AS p ON true
WHERE c.active AND c.tracked GROUP BY 1, 2
"""

_OLD = """
SELECT count(*), count(*) FILTER (WHERE k.checked_at IS NULL),
       count(*) FILTER (WHERE k.checked_at < overnight_now() - interval '8 days'),
       count(*) FILTER (WHERE s.inputs_revision > s.metrics_revision), min(k.checked_at)
FROM company c
LEFT JOIN research_check k ON k.company_id = c.id AND k.job = 'financials_refresh'
LEFT JOIN research_state s ON s.company_id = c.id
WHERE c.active AND c.tracked
"""


@dataclass(frozen=True)
class Reason:
    """Why items of a run were skipped, left out or failed. `detail`: of the first one."""

    status: str
    left_out: bool
    reason: str
    count: int
    examples: Sequence[str]
    detail: str | None


@dataclass(frozen=True)
class ProviderUse:
    """Who answered how often, and why it was not the first tier."""

    provider: str
    fallback_reason: str | None
    count: int


@dataclass(frozen=True)
class RunReport:
    """One job of the night. `outcome` None: it waits for its turn, or is under way."""

    run_id: str
    job: str
    outcome: str | None
    reason: str | None
    started_at: datetime | None
    finished_at: datetime | None
    waiting: int
    updated: int
    skipped: int
    errors: int
    left_out: int
    reasons: Sequence[Reason]
    providers: Sequence[ProviderUse]

    @property
    def processed(self) -> int:
        """Items that are done, whatever became of them."""
        return self.updated + self.skipped + self.errors


@dataclass(frozen=True)
class Staleness:
    """How fresh the data of the followed companies is now."""

    companies: int
    without_last_session: int
    oldest_session: date | None
    stalest: Sequence[str]  # examples
    statements_never_checked: int
    statements_older_than_8_days: int
    metrics_behind: int


@dataclass(frozen=True)
class BudgetLeft:
    """What a provider may still be asked today; None: no limit."""

    provider: str
    used_today: int
    left_today: int | None
    blocked_until: datetime | None
    block_reason: str | None


@dataclass(frozen=True)
class NightReport:
    """A night, whole. `outcome`: the worst of its runs; None while it is under way."""

    nightly_id: str
    trigger: str
    slot_id: str | None
    created_at: datetime
    outcome: str | None
    sample_data: bool
    runs: Sequence[RunReport]
    staleness: Staleness
    budgets: Sequence[BudgetLeft]


_WORST = ("failed", "refused", "partial", "completed")


def report_of(day: date | None = None) -> NightReport:
    """The newest night, or that of a local date. Raises NotFound."""
    rows = fetch(_NIGHTS, {"day": day, "zone": ZONE, "limit": 1})
    if not rows:
        when = "no night has run yet" if day is None else f"no night began on {day} ({ZONE})"
        raise NotFound(f"{when}: `overnight nightly --all` runs one")
    return report_of_night(rows[0][0])


def report_of_night(nightly_id: str) -> NightReport:
    """One night. Raises NotFound."""
    head = "SELECT min(trigger), min(slot_id), min(created_at) FROM job_run WHERE nightly_id = %s"
    [(trigger, slot_id, created_at)] = fetch(head, (nightly_id,))
    if created_at is None:
        raise NotFound(f"no night {nightly_id}: `overnight nightly report` shows the newest")
    reasons: dict[str, list[Reason]] = {}
    for run_id, *rest in fetch(_REASONS, {"night": nightly_id, "examples": EXAMPLES}):
        reasons.setdefault(run_id, []).append(Reason(*rest))
    providers: dict[str, list[ProviderUse]] = {}
    for run_id, *use in fetch(_PROVIDERS, (nightly_id,)):
        providers.setdefault(run_id, []).append(ProviderUse(*use))
    runs = [
        RunReport(*(*row, reasons.get(row[0], ()), providers.get(row[0], ())))
        for row in fetch(_RUNS, (nightly_id,))
    ]
    return NightReport(
        nightly_id,
        trigger,
        slot_id,
        created_at,
        worst_of([run.outcome for run in runs]),
        is_sample_data(),
        runs,
        staleness(),
        budgets_left(),
    )


def worst_of(outcomes: Sequence[str | None]) -> str | None:
    """What a night's outcomes come to; None while one is missing."""
    if None in outcomes:
        return None
    return next((outcome for outcome in _WORST if outcome in outcomes), None)


def is_sample_data() -> bool:
    """Whether the providers are the mocks: what they say is no real company's figure."""
    return all(tier.name.startswith("mock") for tier in market_ports().market)


def staleness() -> Staleness:
    """How fresh the data is."""
    [(now,)] = fetch("SELECT overnight_now()")
    behind: list[tuple[date | None, int, list[str]]] = []
    for exchange, newest, count, symbols in fetch(_SESSIONS, (EXAMPLES,)):
        expected = closed_session(exchange, now)
        if newest is None or isinstance(expected, str) or newest < expected:
            behind.append((newest, int(count), symbols))
    behind.sort(key=lambda each: each[0] or date.min)
    [(companies, never, old, dirty, _)] = fetch(_OLD)
    known = [newest for newest, _, _ in behind if newest is not None]
    stalest: list[str] = [symbol for _, _, symbols in behind for symbol in symbols]
    return Staleness(
        int(companies),
        sum(count for _, count, _ in behind),
        min(known, default=None),
        stalest[:EXAMPLES],
        int(never),
        int(old),
        int(dirty),
    )


def budgets_left() -> list[BudgetLeft]:
    """Of every provider of this process."""
    ports = market_ports()
    used: dict[str, Any] = {each.provider: each for each in usage()}
    found = []
    names = [tier.name for tier in ports.market]
    names += [tier.name for tier in ports.documents]
    names += [tier.name for tier in ports.fx]
    for name in names:
        limit = ports.budgets.get(name, UNLIMITED).per_day
        each = used.get(name)
        today = 0 if each is None or not _is_today(each, name) else int(each.day_used)
        left = None if limit is None else max(0, limit - today)
        blocked = (None, None) if each is None else (each.blocked_until, each.block_reason)
        found.append(BudgetLeft(name, today, left, *blocked))
    return found


def _is_today(each: Any, provider: str) -> bool:
    """Whether the open day of a budget is the provider's present one."""
    zone = market_ports().budgets.get(provider, UNLIMITED).zone
    if each.day_start is None:
        return False
    sql = "SELECT %s >= date_trunc('day', overnight_now(), %s)"
    return bool(fetch(sql, (each.day_start, zone))[0][0])
