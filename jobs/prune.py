"""Prune: forget finished jobs after a while, in small batches that disturb nobody.

    completed | cancelled, older than the retention, of no kept correlation → row and its attempts

Failed jobs never expire: they are the dead letters. Ids of inbox messages and schedule slots stay.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from models.database import fetch, transaction

BATCH = 1_000

#: created_at has an index, finished_at has none (it would cost every completion); a job that
#: finished before the cutoff was created before it.
_OLD = """
FROM job_queue
WHERE created_at >= %(since)s AND created_at < %(before)s AND finished_at < %(before)s
  AND status IN ('completed', 'cancelled')
  AND (correlation IS NULL OR correlation <> ALL(%(kept)s::text[]))
"""

_COUNT = "SELECT count(*)" + _OLD

_DELETE = f"""
WITH old AS (
    SELECT id, created_at {_OLD} ORDER BY created_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED
), job AS (
    DELETE FROM job_queue WHERE id IN (SELECT id FROM old)
), attempt AS (
    DELETE FROM job_attempt WHERE job_id IN (SELECT id FROM old)
), action AS (
    DELETE FROM job_action WHERE job_id IN (SELECT id FROM old)
)
SELECT count(*), max(created_at) FROM old
"""  # noqa: S608 - our own text


class Pruner:
    """Walks through the old jobs once, by the time of their creation."""

    def __init__(self, before: datetime, kept: Sequence[str] = (), batch: int = BATCH) -> None:
        self._params: dict[str, Any] = {
            "since": "-infinity",
            "before": before,
            "kept": list(kept),
            "batch": batch,
        }

    def count(self) -> int:
        """How many jobs would go."""
        [(count,)] = fetch(_COUNT, self._params)
        return int(count)

    def run_once(self) -> int:
        """Delete one batch, in a transaction of its own; returns how many jobs, 0 at the end."""
        with transaction():
            [(count, newest)] = fetch(_DELETE, self._params)
        if newest is not None:
            self._params["since"] = newest  # what is left of the same instant comes next
        return int(count)
