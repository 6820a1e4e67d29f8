"""A run knows how many fees it may cost, as it knows its amount: no promise of it is larger."""

from typing import Any

UP = """
-- The items of all its legs' transactions: one per token id that is burned, and one per payment.
ALTER TABLE payout_run ADD COLUMN fee_items bigint CHECK (fee_items > 0);
UPDATE payout_run r SET fee_items = (
    SELECT sum(1 + jsonb_array_length(l.holdings)) FROM payout_leg l WHERE l.run_id = r.id);
"""

DOWN = "ALTER TABLE payout_run DROP COLUMN fee_items"


def up(migrator: Any, db: Any) -> None:
    """Add the column, also for the runs that are planned already."""
    db.execute_sql(UP)


def down(migrator: Any, db: Any) -> None:
    """Drop it."""
    db.execute_sql(DOWN)
