"""A server's clock that steps back: what was due is due all the same, and delays stay as long.

    highest time ever seen > now → entries whose delay began in the future → due after that delay

Each outbox entry knows when its due time was set, so how long it was meant to wait. They are looked
for until the old time comes again: an entry that somebody has locked is found the next time.
"""

from uuid import UUID

import structlog

from models.database import execute, fetch, transaction

log = structlog.get_logger()

#: One statement that commits by itself: nobody waits for a lock of somebody else's transaction.
#: A second is what a clock may wander without a word: nothing waits longer for it. Whoever is new
#: looks in any case: while nobody was here, nobody saw the clock.
_SEE = """
INSERT INTO clock_mark (one, latest) VALUES (true, overnight_now())
ON CONFLICT (one) DO UPDATE SET latest = greatest(clock_mark.latest, EXCLUDED.latest)
RETURNING latest > overnight_now() + interval '1 s' OR NOT EXISTS (
    SELECT FROM worker WHERE id = %s AND started_at < overnight_now() - interval '15 s')
"""

#: What is with the broker may have been delivered and refused as too early: it is published again.
_SHIFT = """
WITH early AS (
    SELECT o.job_id, CASE WHEN o.published_at IS NULL THEN greatest(o.due_at - o.due_set_at, '0')
                          ELSE '0' END AS delay
    FROM job_outbox o JOIN job_queue j ON j.id = o.job_id
    WHERE o.due_at IS NOT NULL AND o.due_set_at > overnight_now() + interval '1 s'
    ORDER BY j.id LIMIT 1000
    FOR UPDATE OF j, o SKIP LOCKED
), job AS (
    UPDATE job_queue SET run_at = overnight_now() + early.delay
    FROM early WHERE id = early.job_id
    RETURNING id, run_at
)
UPDATE job_outbox
SET due_at = job.run_at, due_set_at = overnight_now(), published_at = NULL
FROM job WHERE job_id = job.id
"""


def follow_clock(me: UUID) -> int:
    """Notice a clock that stepped back, and move what would wait for it; returns how many jobs."""
    [(perhaps,)] = fetch(_SEE, (str(me),))
    if not perhaps:
        return 0
    moved = 0
    while True:
        with transaction():
            part = execute(_SHIFT)
        if not part:
            break
        moved += part
    if moved:
        log.warning("the database's clock stepped back; jobs are due by the new time", jobs=moved)
    return moved
