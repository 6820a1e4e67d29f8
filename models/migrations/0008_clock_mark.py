"""A clock that steps back delays no job: when each due time was set, and the highest time seen."""

from typing import Any

UP = """
ALTER TABLE job_outbox ADD COLUMN due_set_at timestamptz NOT NULL DEFAULT overnight_now();

-- One row.
CREATE TABLE clock_mark (
    one    boolean PRIMARY KEY DEFAULT true CHECK (one),
    latest timestamptz NOT NULL
);
"""

DOWN = """
DROP TABLE clock_mark;
ALTER TABLE job_outbox DROP COLUMN due_set_at;
"""


def up(migrator: Any, db: Any) -> None:
    """Add the column and the table."""
    db.execute_sql(UP)


def down(migrator: Any, db: Any) -> None:
    """Drop them again."""
    db.execute_sql(DOWN)
