"""What must be true of nights, slots, runs and items, in SQL of our own."""

from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

from domain.research import ResearchJob
from mocks.market.folder import MOCK_KEY
from verify.rules import Query, broken_rules

#: Every table whose rows may quote a provider.
_TOLD = (
    "job_run", "job_run_item", "job_attempt", "job_queue", "provider_block", "alert", "statement",
    "document", "company", "pause", "schedule_slot",
)  # fmt: skip

#: Tables whose rows are written by a run, and by which job; each with the end of one of its items.
_WRITTEN = {
    "daily_price": "price_refresh",
    "corporate_action": "price_refresh",
    "fx_rate": "fx_refresh",
    "document": "document_refresh",
    "statement": "financials_refresh",
    "derived_metric": "metrics_recalc",
}

_ATOMIC = """
SELECT t.* FROM {table} t WHERE NOT EXISTS (
    SELECT FROM job_run_item i JOIN job_run r ON r.id = i.run_id
    WHERE r.job = {job} AND i.xmin = t.xmin AND i.status <> 'waiting')
"""

_COUNTED = """
FROM job_run r LEFT JOIN LATERAL (
    SELECT count(*) AS total, count(*) FILTER (WHERE status = 'waiting') AS waiting,
           count(*) FILTER (WHERE status = 'updated') AS updated,
           count(*) FILTER (WHERE status = 'skipped') AS skipped,
           count(*) FILTER (WHERE status = 'error') AS errors,
           count(*) FILTER (WHERE status = 'error' OR left_out) AS bad
    FROM job_run_item i WHERE i.run_id = r.id) i ON true
"""

_MIDWAY = (
    ("a night lacks some of its jobs",
     "SELECT nightly_id, slot_id, count(*) FROM job_run"
     " GROUP BY nightly_id, slot_id HAVING count(*) <> 6"),
    ("two nights are under way",
     "SELECT count(DISTINCT nightly_id) FROM job_run WHERE finished_at IS NULL"
     " HAVING count(DISTINCT nightly_id) > 1"),
    ("a slot has two nights",
     "SELECT slot_id FROM job_run WHERE slot_id IS NOT NULL GROUP BY slot_id"
     " HAVING count(DISTINCT nightly_id) > 1"),
    ("a slot was opened without its job",
     "SELECT s.local_date FROM schedule_slot s WHERE outcome = 'opened' AND NOT EXISTS ("
     " SELECT FROM job_queue j WHERE j.id = s.job_id"
     " AND j.payload ->> 'slot_id' = s.schedule || ':' || s.local_date)"),
    ("a run ended with items that wait",
     f"SELECT r.job, r.outcome, i.* {_COUNTED} WHERE r.finished_at IS NOT NULL AND waiting > 0"),
    ("a run's counts are not its items'",
     f"SELECT r.job, r.outcome, r.processed, i.* {_COUNTED} WHERE r.finished_at IS NOT NULL"
     " AND (r.processed, r.updated, r.skipped, r.errors)"
     " IS DISTINCT FROM (i.total::int, i.updated::int, i.skipped::int, i.errors::int)"),
    ("a run's outcome is not its items'",
     f"SELECT r.job, r.outcome, r.reason, i.* {_COUNTED} WHERE CASE r.outcome"
     " WHEN 'completed' THEN bad > 0 WHEN 'partial' THEN bad = 0 OR r.reason IS NULL"
     " WHEN 'failed' THEN r.reason IS NULL WHEN 'refused' THEN total > 0 OR r.reason IS NULL END"),
    ("a run began before the one before it ended",
     "SELECT a.job, b.job FROM job_run a JOIN job_run b ON b.nightly_id = a.nightly_id"
     " AND b.position > a.position WHERE a.finished_at IS NULL AND b.started_at IS NOT NULL"),
    *((f"rows of {table} are not of an item's transaction",
       _ATOMIC.format(table=table, job=f"'{job}'")) for table, job in _WRITTEN.items()),
    ("a check is not of an item's transaction",
     _ATOMIC.format(table="research_check", job="t.job")),
)  # fmt: skip

_AT_THE_END = (
    ("a run has no end", "SELECT job, created_at FROM job_run WHERE finished_at IS NULL"),
    ("an opened slot has no night",
     "SELECT s.local_date, j.status FROM schedule_slot s JOIN job_queue j ON j.id = s.job_id"
     " WHERE j.status <> 'cancelled' AND NOT EXISTS (SELECT FROM job_run r"
     " WHERE r.slot_id = s.schedule || ':' || s.local_date)"),
    ("a slot that did not open has no reason",
     "SELECT local_date, outcome FROM schedule_slot WHERE outcome <> 'opened' AND reason IS NULL"),
    ("a day has no slot",
     "SELECT day::date FROM (SELECT min(local_date) AS a, max(local_date) AS z FROM schedule_slot)"
     " s, generate_series(a, z, interval '1 day') AS day"
     " WHERE NOT EXISTS (SELECT FROM schedule_slot WHERE local_date = day::date)"),
    *((f"the provider's key is in a row of {table}",
       f"SELECT 1 FROM {table} t WHERE t::text LIKE '%%{MOCK_KEY}%%'") for table in _TOLD),
)  # fmt: skip


def broken_midway(query: Query) -> list[str]:
    """What holds between any two points."""
    return broken_rules(query, _MIDWAY)


def broken_at_the_end(query: Query) -> list[str]:
    """What holds once every night is over."""
    return broken_rules(query, (*_MIDWAY, *_AT_THE_END))


def night_of(moment: datetime) -> datetime:
    """When the next night begins after `moment`: 02:00 in Kolkata, which has no summer time."""
    zone = ZoneInfo("Asia/Kolkata")
    local = moment.astimezone(zone)
    begins = datetime.combine(local.date(), time(2), zone)
    return begins if begins > moment else begins + timedelta(days=1)


def broken_last_night(query: Query, slot_id: str) -> list[str]:
    """A night without any trouble does everything, and asks nobody but the first tier."""
    found = []
    runs = query("SELECT job, outcome, reason FROM job_run WHERE slot_id = %s", (slot_id,))
    if [job for job, _, _ in runs if job not in set(ResearchJob)] or len(runs) != 6:
        found.append(f"the last night has not its six runs: {runs}")
    found += [f"the last night's {job} is {outcome}: {reason}"
              for job, outcome, reason in runs if outcome != "completed"]  # fmt: skip
    fallen = query(
        "SELECT job, item_key, provider_reason FROM job_run_item JOIN job_run r ON r.id = run_id"
        " WHERE slot_id = %s AND provider_reason IS NOT NULL LIMIT 3",
        (slot_id,),
    )
    return found + ([f"the last night fell back: {fallen}"] if fallen else [])
