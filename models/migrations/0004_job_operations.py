"""What people do to jobs: requeue, discard, cancel, pause; each with who and why."""

from typing import Any

UP = """
-- The singleton key of a job that ended without being done: a requeue takes it back.
ALTER TABLE job_queue ADD COLUMN released_singleton_key text
    CHECK (released_singleton_key IS NULL OR finished_at IS NOT NULL);

CREATE TABLE job_action (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id   uuid NOT NULL,
    at       timestamptz NOT NULL DEFAULT overnight_now(),
    action   text NOT NULL CHECK (action IN ('requeued', 'discarded', 'cancelled')),
    by_whom  text NOT NULL,
    reason   text,
    attempts integer NOT NULL,  -- of the life that this ended
    deaths   integer NOT NULL
);
CREATE INDEX job_action_job ON job_action (job_id);

ALTER TABLE pause ADD COLUMN paused_by text NOT NULL DEFAULT 'overnight';
"""

DOWN = """
ALTER TABLE pause DROP COLUMN paused_by;
DROP TABLE job_action;
ALTER TABLE job_queue DROP COLUMN released_singleton_key;
"""


def up(migrator: Any, db: Any) -> None:
    """Create the table of actions, and what requeue and pause need."""
    db.execute_sql(UP)


def down(migrator: Any, db: Any) -> None:
    """Drop them again."""
    db.execute_sql(DOWN)
