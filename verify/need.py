"""What there is to do in a schedule: the scheduler chooses by it, and the calm waits for it."""

from dataclasses import dataclass

#: One row: the fields of `Need`.
NEED = """
SELECT count(*) FILTER (WHERE due_at <= overnight_now()), count(*) FILTER (WHERE due_at IS NULL
           AND EXISTS (SELECT FROM job_queue j WHERE j.id = job_id AND j.status = 'processing')),
       extract(epoch FROM min(due_at) FILTER (WHERE due_at > overnight_now()) - overnight_now())
           ::float,
       (SELECT count(*) FROM chain_operation WHERE state NOT IN ('settled', 'void')),
       array(SELECT DISTINCT queue FROM job_outbox WHERE due_at <= overnight_now() ORDER BY 1)
FROM job_outbox
"""


@dataclass(frozen=True)
class Need:
    """What there is to do."""

    due: int
    claimed: int
    next_due_s: float | None
    operations: int
    queues: list[str]  # in which something is due
