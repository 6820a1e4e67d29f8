"""What people decide about runs and wallets, and the states that follow. See docs/operations.md."""

from typing import Any

UP = """
ALTER TABLE payout_run DROP CONSTRAINT payout_run_state_check;
ALTER TABLE payout_run ADD CONSTRAINT payout_run_state_check CHECK (state IN
    ('planning', 'approval', 'waiting', 'paying', 'finished', 'failed', 'cancelled', 'stopping',
     'stopped'));

-- Who decided what, for ever. A decision is written in the transaction that makes it true.
CREATE TABLE payout_decision (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at        timestamptz NOT NULL DEFAULT overnight_now(),
    wallet_id integer REFERENCES wallet,
    run_id    uuid REFERENCES payout_run,
    kind      text NOT NULL CHECK (kind IN
              ('halt', 'adopt', 'resolve', 'resume', 'approve', 'stop', 'retry', 'accept')),
    person    text NOT NULL CHECK (person <> ''),
    nonce     bigint,
    tx_hash   text,
    note      text,
    CHECK (wallet_id IS NOT NULL OR run_id IS NOT NULL)
);
CREATE INDEX payout_decision_wallet ON payout_decision (wallet_id, kind, nonce);

-- An operation without a run only uses up a nonce: a foreign transaction that two people explained,
-- or an empty one of ours where a transaction was lost.
ALTER TABLE chain_operation ALTER COLUMN run_id DROP NOT NULL;
-- Displaced: its nonce was consumed by a transaction that was found, is final, and is not its own.
ALTER TABLE chain_operation ADD COLUMN displaced boolean NOT NULL DEFAULT false;
ALTER TABLE chain_operation ADD CHECK (NOT displaced OR state = 'void');
ALTER TABLE chain_operation DROP CONSTRAINT chain_operation_wallet_id_nonce_key;
CREATE UNIQUE INDEX chain_operation_nonce ON chain_operation (wallet_id, nonce) WHERE NOT displaced;
"""

DOWN = """
DROP INDEX chain_operation_nonce;
DELETE FROM chain_transaction WHERE operation_id IN
    (SELECT id FROM chain_operation WHERE displaced OR run_id IS NULL);
DELETE FROM operation_leg WHERE operation_id IN
    (SELECT id FROM chain_operation WHERE displaced OR run_id IS NULL);
DELETE FROM chain_operation WHERE displaced OR run_id IS NULL;
ALTER TABLE chain_operation ADD CONSTRAINT chain_operation_wallet_id_nonce_key
    UNIQUE (wallet_id, nonce);
ALTER TABLE chain_operation DROP COLUMN displaced;
ALTER TABLE chain_operation ALTER COLUMN run_id SET NOT NULL;
DROP TABLE payout_decision;
UPDATE payout_run SET state = CASE state WHEN 'approval' THEN 'planning' ELSE 'paying' END
    WHERE state IN ('approval', 'stopping', 'stopped');
ALTER TABLE payout_run DROP CONSTRAINT payout_run_state_check;
ALTER TABLE payout_run ADD CONSTRAINT payout_run_state_check CHECK (state IN
    ('planning', 'waiting', 'paying', 'finished', 'failed', 'cancelled'));
"""


def up(migrator: Any, db: Any) -> None:
    """More states of a run, decisions, operations without a run."""
    db.execute_sql(UP)


def down(migrator: Any, db: Any) -> None:
    """Back to the states before; decisions are lost."""
    db.execute_sql(DOWN)
