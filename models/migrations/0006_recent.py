"""A server's clock may step back: then what happened "in the future" is old, not fresh for ever."""

from typing import Any

UP = """
-- Both ways, as rows of other transactions may be a moment newer than our own statement.
CREATE FUNCTION overnight_is_recent(at timestamptz, within interval) RETURNS boolean
LANGUAGE sql STABLE
AS $$ SELECT at BETWEEN overnight_now() - within AND overnight_now() + within $$;
"""


def up(migrator: Any, db: Any) -> None:
    """Create the function."""
    db.execute_sql(UP)


def down(migrator: Any, db: Any) -> None:
    """Drop it again."""
    db.execute_sql("DROP FUNCTION overnight_is_recent(timestamptz, interval)")
