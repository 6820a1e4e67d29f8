"""Bonds, wallets, payout runs and what they did on chain. Explained in docs/payouts.md."""

from typing import Any

UP = """
CREATE DOMAIN units AS numeric(78, 0) CHECK (VALUE >= 0);

CREATE TABLE bond (
    id                   text PRIMARY KEY,
    name                 text NOT NULL,
    contract             text NOT NULL,
    token                text NOT NULL,
    token_decimals       smallint NOT NULL CHECK (token_decimals BETWEEN 0 AND 36),
    face_value_per_token numeric NOT NULL CHECK (face_value_per_token > 0),
    maturity_date        date NOT NULL,
    file_digest          text NOT NULL,
    imported_at          timestamptz NOT NULL DEFAULT overnight_now()
);
CREATE TABLE bond_investor (
    bond_id     text NOT NULL REFERENCES bond ON DELETE CASCADE,
    address     text NOT NULL,
    name        text NOT NULL DEFAULT '',
    email       text NOT NULL DEFAULT '',
    whitelisted boolean NOT NULL,  -- as the file said; the registry decides
    PRIMARY KEY (bond_id, address)
);
CREATE TABLE bond_holding (
    bond_id  text NOT NULL,
    address  text NOT NULL,
    token_id bigint NOT NULL CHECK (token_id >= 0),
    balance  units NOT NULL,
    PRIMARY KEY (bond_id, address, token_id),
    FOREIGN KEY (bond_id, address) REFERENCES bond_investor ON DELETE CASCADE
);

CREATE TABLE wallet (
    id             integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    chain_id       text NOT NULL,
    address        text NOT NULL,
    environment_id text NOT NULL,
    next_nonce     bigint NOT NULL CHECK (next_nonce >= 0),
    final_height   bigint NOT NULL DEFAULT 0,
    final_hash     text,
    halted_at      timestamptz,
    halt_reason    text,
    created_at     timestamptz NOT NULL DEFAULT overnight_now(),
    UNIQUE (chain_id, address),
    CHECK ((halted_at IS NULL) = (halt_reason IS NULL))
);

CREATE TABLE payout_run (
    id             uuid PRIMARY KEY,
    sequence       bigint GENERATED ALWAYS AS IDENTITY UNIQUE,  -- trigger order
    kind           text NOT NULL CHECK (kind IN ('maturity', 'yield', 'refund')),
    subject        text NOT NULL,
    bond_id        text NOT NULL REFERENCES bond,
    wallet_id      integer NOT NULL REFERENCES wallet,
    state          text NOT NULL DEFAULT 'planning' CHECK (state IN
                   ('planning', 'waiting', 'paying', 'finished', 'failed', 'cancelled')),
    config_version text NOT NULL,
    record_date    date NOT NULL,
    token          text NOT NULL,
    token_decimals smallint NOT NULL,
    plan_hash      text,
    leg_count      integer,
    total_units    units,
    triggered_by   text NOT NULL,
    triggered_at   timestamptz NOT NULL DEFAULT overnight_now(),
    planned_at     timestamptz,
    approved_by    text,
    approved_hash  text,
    approved_at    timestamptz,
    reserved_at    timestamptz,
    note           text,   -- why it waits or failed, for people
    finished_at    timestamptz,
    reconciled_at     timestamptz,  -- last time that plan, database and chain were found equal
    reconciled_height bigint,
    CHECK ((plan_hash IS NULL) = (planned_at IS NULL)),
    CHECK ((plan_hash IS NULL) = (leg_count IS NULL)),
    CHECK ((plan_hash IS NULL) = (total_units IS NULL)),
    CHECK (approved_hash IS NULL OR approved_hash = plan_hash),
    CHECK (reserved_at IS NULL OR approved_hash IS NOT NULL),
    CHECK ((state = 'finished') = (finished_at IS NOT NULL))
);
CREATE UNIQUE INDEX payout_run_subject ON payout_run (kind, subject)
    WHERE state NOT IN ('cancelled', 'failed');

CREATE TABLE payout_page (
    id         uuid PRIMARY KEY,
    run_id     uuid NOT NULL REFERENCES payout_run,
    number     integer NOT NULL,
    phase      text NOT NULL CHECK (phase IN ('burn', 'transfer')),  -- where its pipeline starts
    created_at timestamptz NOT NULL DEFAULT overnight_now(),
    UNIQUE (run_id, number)
);

-- planned → burning → burned → paying → paid; held and failed leave the line, with a reason.
CREATE TABLE payout_leg (
    id             uuid PRIMARY KEY,
    run_id         uuid NOT NULL REFERENCES payout_run,
    page_id        uuid REFERENCES payout_page,
    address        text NOT NULL,
    units          units NOT NULL CHECK (units > 0),
    holdings       jsonb NOT NULL,      -- [[token_id, "balance"], …] to burn, by token id
    digest         text NOT NULL,       -- of everything above that is paid; signing compares it
    burn_ref       text NOT NULL UNIQUE,
    transfer_ref   text NOT NULL UNIQUE,
    state          text NOT NULL DEFAULT 'planned' CHECK (state IN
                   ('planned', 'burning', 'burned', 'paying', 'paid', 'held', 'failed')),
    reason         text,
    alone          boolean NOT NULL DEFAULT false,  -- after a reverted batch: one transaction each
    burn_height    bigint,
    burn_hash      text,
    paid_height    bigint,
    paid_hash      text,
    notified_at    timestamptz,
    UNIQUE (run_id, address),
    CHECK ((state IN ('held', 'failed')) = (reason IS NOT NULL)),
    CHECK ((state = 'paid') = (paid_height IS NOT NULL)),
    CHECK ((burn_height IS NULL) = (burn_hash IS NULL)),
    CHECK ((paid_height IS NULL) = (paid_hash IS NULL))
) WITH (fillfactor = 70);
CREATE INDEX payout_leg_page ON payout_leg (page_id);

CREATE FUNCTION payout_leg_is_frozen() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'leg %% is part of an approved plan: address, units, holdings, digest and refs '
        'never change', OLD.id USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER payout_leg_frozen BEFORE UPDATE ON payout_leg FOR EACH ROW
    WHEN ((OLD.run_id, OLD.address, OLD.units, OLD.holdings, OLD.digest, OLD.burn_ref,
           OLD.transfer_ref) IS DISTINCT FROM
          (NEW.run_id, NEW.address, NEW.units, NEW.holdings, NEW.digest, NEW.burn_ref,
           NEW.transfer_ref))
    EXECUTE FUNCTION payout_leg_is_frozen();

-- One nonce of one wallet. intent → signed → mined → settled | void. Reorged: mined → signed.
CREATE TABLE chain_operation (
    id                uuid PRIMARY KEY,
    wallet_id         integer NOT NULL REFERENCES wallet,
    run_id            uuid NOT NULL REFERENCES payout_run,
    nonce             bigint NOT NULL,
    kind              text NOT NULL CHECK (kind IN ('burn', 'transfer')),
    state             text NOT NULL DEFAULT 'intent' CHECK (state IN
                      ('intent', 'signed', 'mined', 'settled', 'void')),
    unsigned          text NOT NULL,
    digest            text NOT NULL,
    mined_height      bigint,
    mined_hash        text,
    void_reason       text,
    created_at        timestamptz NOT NULL DEFAULT overnight_now(),
    last_broadcast_at timestamptz,
    broadcast_count   integer NOT NULL DEFAULT 0,
    settled_at        timestamptz,
    UNIQUE (wallet_id, nonce),
    CHECK ((state = 'void') = (void_reason IS NOT NULL)),
    CHECK (state NOT IN ('mined', 'settled') OR mined_height IS NOT NULL)
);
CREATE INDEX chain_operation_unsettled ON chain_operation (wallet_id, nonce)
    WHERE state NOT IN ('settled', 'void');
CREATE TABLE operation_leg (
    operation_id uuid NOT NULL REFERENCES chain_operation,
    leg_id       uuid NOT NULL REFERENCES payout_leg,
    phase        text NOT NULL CHECK (phase IN ('burn', 'transfer')),
    void         boolean NOT NULL DEFAULT false,
    PRIMARY KEY (operation_id, leg_id)
);
-- The heart of "never twice": whatever the caller believes, one live operation per leg and phase.
CREATE UNIQUE INDEX operation_leg_live ON operation_leg (leg_id, phase) WHERE NOT void;

CREATE TABLE chain_transaction (
    tx_hash       text PRIMARY KEY,
    operation_id  uuid NOT NULL REFERENCES chain_operation,
    raw           bytea NOT NULL,
    fee_cap_units units NOT NULL,
    signed_at     timestamptz NOT NULL DEFAULT overnight_now()
);
CREATE INDEX chain_transaction_operation ON chain_transaction (operation_id);

CREATE TABLE notification (
    id         uuid PRIMARY KEY,
    user_id    text NOT NULL,
    kind       text NOT NULL,
    title      text NOT NULL,
    message    text NOT NULL,
    dedup_key  text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT overnight_now(),
    UNIQUE (user_id, dedup_key)
);
"""

DOWN = """
DROP TABLE notification, chain_transaction, operation_leg, chain_operation, payout_leg, payout_page,
    payout_run, wallet, bond_holding, bond_investor, bond;
DROP FUNCTION payout_leg_is_frozen();
DROP DOMAIN units;
"""


def up(migrator: Any, db: Any) -> None:
    """Create the payout tables."""
    db.execute_sql(UP)


def down(migrator: Any, db: Any) -> None:
    """Drop them, with everything in them."""
    db.execute_sql(DOWN)
