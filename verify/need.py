"""What there is to do in a schedule: the scheduler chooses by it, and the calm waits for it."""

from dataclasses import dataclass

#: One row: the fields of `Need`.
NEED = """
SELECT count(*) FILTER (WHERE o.due_at <= c.now), count(*) FILTER (WHERE o.due_at IS NULL
           AND EXISTS (SELECT FROM job_queue j WHERE j.id = o.job_id AND j.status = 'processing')),
       extract(epoch FROM min(o.due_at) FILTER (WHERE o.due_at > c.now) - max(c.now))::float,
       (SELECT count(*) FROM chain_operation WHERE state NOT IN ('settled', 'void')),
       coalesce(array_agg(DISTINCT o.queue ORDER BY o.queue) FILTER (WHERE o.due_at <= c.now), '{}')
FROM (SELECT overnight_now() AS now OFFSET 0) c LEFT JOIN job_outbox o ON true
"""


@dataclass(frozen=True)
class Need:
    """What there is to do."""

    due: int
    claimed: int
    next_due_s: float | None
    operations: int
    queues: list[str]  # in which something is due
