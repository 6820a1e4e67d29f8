"""Release parked jobs: steps that waited for something outside, such as a final block."""

from collections.abc import Sequence
from uuid import UUID

from models.database import db, fetch

_RELEASE = """
WITH job AS (
    UPDATE job_queue SET run_at = overnight_now()
    WHERE id = ANY(%(ids)s::uuid[]) AND status = 'pending' AND run_at IS NULL
    RETURNING id, run_at
)
UPDATE job_outbox SET due_at = job.run_at, due_set_at = overnight_now()
FROM job WHERE job_id = job.id
RETURNING job_id, (SELECT pg_notify('job_outbox', '') FROM relay_idle LIMIT 1)::text
"""


def release(job_ids: Sequence[UUID]) -> int:
    """Make parked jobs due now, in the caller's transaction; returns how many were parked."""
    if not db.in_transaction():
        raise RuntimeError("release needs an open transaction")
    return len(fetch(_RELEASE, {"ids": [str(job_id) for job_id in job_ids]}))
