"""Legs are as frozen as before, and a change of their state no longer locks each row twice."""

from typing import Any

UP = """
-- A trigger before the update makes the server lock, log and fetch every row first, whatever the
-- trigger is about: a third of what moving legs costs. One after it is only looked at, and only for
-- statements that name a frozen column. It refuses the same changes, in the same statement.
DROP TRIGGER payout_leg_frozen ON payout_leg;
CREATE TRIGGER payout_leg_frozen
    AFTER UPDATE OF run_id, address, units, holdings, digest, burn_ref, transfer_ref
    ON payout_leg FOR EACH ROW
    WHEN ((OLD.run_id, OLD.address, OLD.units, OLD.holdings, OLD.digest, OLD.burn_ref,
           OLD.transfer_ref) IS DISTINCT FROM
          (NEW.run_id, NEW.address, NEW.units, NEW.holdings, NEW.digest, NEW.burn_ref,
           NEW.transfer_ref))
    EXECUTE FUNCTION payout_leg_is_frozen();
"""

DOWN = """
DROP TRIGGER payout_leg_frozen ON payout_leg;
CREATE TRIGGER payout_leg_frozen BEFORE UPDATE ON payout_leg FOR EACH ROW
    WHEN ((OLD.run_id, OLD.address, OLD.units, OLD.holdings, OLD.digest, OLD.burn_ref,
           OLD.transfer_ref) IS DISTINCT FROM
          (NEW.run_id, NEW.address, NEW.units, NEW.holdings, NEW.digest, NEW.burn_ref,
           NEW.transfer_ref))
    EXECUTE FUNCTION payout_leg_is_frozen();
"""


def up(migrator: Any, db: Any) -> None:
    """The trigger fires after the update."""
    db.execute_sql(UP)


def down(migrator: Any, db: Any) -> None:
    """And before it again."""
    db.execute_sql(DOWN)
