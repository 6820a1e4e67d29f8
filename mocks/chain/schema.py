"""The mock chain's database: its tables, and how it comes and goes.

The ledger is the truth: every entry carries the balance after it, so a balance at any height
is one index lookup, and a reorg only flips `canonical`.
"""

import psycopg2
from psycopg2 import errors, sql
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class, badly named
from psycopg2.extensions import make_dsn, parse_dsn

# One lock number for "create the schema"; any constant that nothing else in that database uses.
SCHEMA_LOCK = 7_267_001

SCHEMA = """
CREATE TABLE IF NOT EXISTS chain (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    chain_id text NOT NULL,
    block_interval_ms integer NOT NULL CHECK (block_interval_ms > 0),
    finality_depth integer NOT NULL CHECK (finality_depth >= 0),
    auto_mine boolean NOT NULL,
    max_block_transactions integer NOT NULL CHECK (max_block_transactions > 0),
    fee_per_item_units bigint NOT NULL CHECK (fee_per_item_units >= 0),
    enforce_identity boolean NOT NULL,
    max_pending_per_sender integer NOT NULL CHECK (max_pending_per_sender > 0),
    seed bigint NOT NULL,
    draws bigint NOT NULL DEFAULT 0,
    branch integer NOT NULL DEFAULT 0,
    height integer NOT NULL DEFAULT 0,
    block_hash text NOT NULL,
    last_block_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE IF NOT EXISTS block (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    height integer NOT NULL,
    block_hash text NOT NULL UNIQUE,
    parent_hash text,
    canonical boolean NOT NULL DEFAULT true,
    mined_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE UNIQUE INDEX IF NOT EXISTS block_at ON block (height) WHERE canonical;
CREATE TABLE IF NOT EXISTS tx (
    tx_hash text PRIMARY KEY,
    arrived bigint GENERATED ALWAYS AS IDENTITY,
    sender text NOT NULL,
    nonce bigint NOT NULL,
    kind text NOT NULL,
    raw bytea NOT NULL,
    fee_cap_units numeric NOT NULL,
    status text NOT NULL CHECK (status IN ('pending', 'mined', 'dropped', 'replaced')),
    block_id bigint REFERENCES block,
    succeeded boolean,
    revert_reason text,
    failed_item integer,
    CHECK ((status = 'mined') = (block_id IS NOT NULL)),
    CHECK ((status = 'mined') = (succeeded IS NOT NULL))
);
CREATE UNIQUE INDEX IF NOT EXISTS tx_pending ON tx (sender, nonce) WHERE status = 'pending';
CREATE UNIQUE INDEX IF NOT EXISTS tx_mined ON tx (sender, nonce) WHERE status = 'mined';
CREATE INDEX IF NOT EXISTS tx_of_block ON tx (block_id);
CREATE TABLE IF NOT EXISTS ledger (
    block_id bigint NOT NULL,
    position integer NOT NULL,
    height integer NOT NULL,
    kind text NOT NULL CHECK (kind IN ('burn', 'transfer', 'debit', 'fee', 'grant')),
    asset text NOT NULL,
    address text NOT NULL,
    delta_units numeric NOT NULL,
    balance_units numeric NOT NULL,
    ref text,
    tx_hash text,
    canonical boolean NOT NULL DEFAULT true,
    PRIMARY KEY (block_id, position)
);
CREATE INDEX IF NOT EXISTS ledger_balance
    ON ledger (asset, address, height DESC, position DESC) WHERE canonical;
CREATE INDEX IF NOT EXISTS ledger_ref ON ledger (ref, kind) WHERE canonical AND ref IS NOT NULL;
CREATE TABLE IF NOT EXISTS identity (
    address text PRIMARY KEY
);
CREATE TABLE IF NOT EXISTS fault (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL,
    op text NOT NULL,
    probability double precision NOT NULL CHECK (probability BETWEEN 0 AND 1),
    times integer CHECK (times >= 0),
    nonce bigint,
    tx_kind text,
    reason text,
    latency_ms integer NOT NULL DEFAULT 0,
    until timestamptz,
    hits bigint NOT NULL DEFAULT 0
);
"""

TABLES = "chain, block, tx, ledger, identity, fault"


def _server(url: str) -> Connection:
    """A connection to the maintenance database of the same server, in autocommit mode."""
    connection = psycopg2.connect(make_dsn(url, dbname="postgres"), connect_timeout=10)
    connection.autocommit = True
    return connection


def create_database(url: str) -> None:
    """Create the database that `url` names, unless it exists. Safe to race."""
    name = parse_dsn(url)["dbname"]
    connection = _server(url)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
            if cursor.fetchone() is None:
                cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    except (errors.DuplicateDatabase, errors.UniqueViolation):
        pass  # another process was faster
    finally:
        connection.close()


def drop_database(url: str) -> None:
    """Drop the database that `url` names, with everybody's connections to it."""
    name = sql.Identifier(parse_dsn(url)["dbname"])
    connection = _server(url)
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
    finally:
        connection.close()
