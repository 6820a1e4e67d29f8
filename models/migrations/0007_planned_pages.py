"""Legs have their page from the plan on, and room on their heap page to change state in place."""

from typing import Any

UP = """
-- A page is planned first, and opened (given its pipeline) when its money is reserved.
ALTER TABLE payout_page ADD COLUMN opened_at timestamptz;
UPDATE payout_page SET opened_at = created_at;

-- A page's legs lie side by side and change together: an update finds room beside all of them, and
-- leaves the indexes alone.
ALTER TABLE payout_leg SET (fillfactor = 45);
"""

DOWN = """
ALTER TABLE payout_leg SET (fillfactor = 70);
ALTER TABLE payout_page DROP COLUMN opened_at;
"""


def up(migrator: Any, db: Any) -> None:
    """Pages that are opened later, and a looser heap."""
    db.execute_sql(UP)


def down(migrator: Any, db: Any) -> None:
    """Back to pages that are opened as they are made."""
    db.execute_sql(DOWN)
