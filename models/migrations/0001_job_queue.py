"""The job queue: rows before messages. States and columns are explained in docs/jobs.md."""

from typing import Any

UP = """
-- Due is decided by database time, read through this one function, so that the proof can move it.
CREATE FUNCTION overnight_now() RETURNS timestamptz LANGUAGE sql STABLE
AS $$ SELECT statement_timestamp() $$;

-- No index names the status (or any column that changes while a job lives), so updates stay HOT.
CREATE TABLE job_queue (
    id            uuid PRIMARY KEY,
    job_type      text NOT NULL,
    service       text NOT NULL,
    queue         text NOT NULL,
    payload       jsonb NOT NULL DEFAULT '{}',
    status        text NOT NULL DEFAULT 'pending' CHECK (status IN
                  ('pending', 'processing', 'retrying', 'completed', 'failed', 'cancelled')),
    priority      smallint NOT NULL CHECK (priority BETWEEN 1 AND 5),
    attempts      integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    deaths        integer NOT NULL DEFAULT 0 CHECK (deaths >= 0),
    max_retries   integer NOT NULL CHECK (max_retries >= 0),
    run_at        timestamptz,
    dedup_key     text,
    singleton_key text,
    correlation   text,
    parent        uuid,
    next_steps    jsonb,
    processed_by  uuid,
    claim_token   uuid,
    created_at    timestamptz NOT NULL DEFAULT overnight_now(),
    started_at    timestamptz,
    finished_at   timestamptz,
    last_error    text,
    CHECK ((status = 'processing') = (claim_token IS NOT NULL)),
    CHECK ((status IN ('completed', 'failed', 'cancelled')) = (finished_at IS NOT NULL)),
    CHECK (finished_at IS NULL OR singleton_key IS NULL),
    CHECK (run_at IS NOT NULL OR status IN ('pending', 'cancelled'))
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX job_queue_dedup_key ON job_queue (dedup_key) WHERE dedup_key IS NOT NULL;
CREATE UNIQUE INDEX job_queue_singleton_key ON job_queue (singleton_key)
    WHERE singleton_key IS NOT NULL;
CREATE INDEX job_queue_correlation ON job_queue (correlation) WHERE correlation IS NOT NULL;
CREATE INDEX job_queue_created_at ON job_queue (created_at);

-- What is open. A row lives from enqueue until its job finishes.
--   due_at NULL                      parked, or claimed by a worker (rescue owns it)
--   published_at NULL, due_at set    waiting to be published at due_at
--   published_at set                 with the broker; published again at due_at if still unclaimed
CREATE TABLE job_outbox (
    job_id        uuid PRIMARY KEY,
    queue         text NOT NULL,
    job_type      text NOT NULL,
    service       text NOT NULL,
    priority      smallint NOT NULL,
    due_at        timestamptz,
    published_at  timestamptz,
    publish_count integer NOT NULL DEFAULT 0,
    epoch         uuid
) WITH (fillfactor = 80);
CREATE INDEX job_outbox_waiting ON job_outbox (queue, priority DESC, due_at)
    WHERE published_at IS NULL AND due_at IS NOT NULL;
CREATE INDEX job_outbox_published ON job_outbox (queue, due_at) WHERE published_at IS NOT NULL;
CREATE INDEX job_outbox_held ON job_outbox (job_id) WHERE due_at IS NULL;

-- A row while a relay sleeps: only then is an enqueue worth a NOTIFY.
CREATE UNLOGGED TABLE relay_idle (relay uuid PRIMARY KEY);

CREATE TABLE job_attempt (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id     uuid NOT NULL,
    attempt    integer NOT NULL,
    outcome    text NOT NULL CHECK (outcome IN ('failed', 'refunded', 'died')),
    worker     uuid,
    started_at timestamptz,
    ended_at   timestamptz NOT NULL DEFAULT overnight_now(),
    error      text NOT NULL,
    traceback  text
);
CREATE INDEX job_attempt_job ON job_attempt (job_id);

CREATE TABLE worker (
    id           uuid PRIMARY KEY,
    host         text NOT NULL,
    pid          integer NOT NULL,
    started_at   timestamptz NOT NULL DEFAULT overnight_now(),
    heartbeat_at timestamptz NOT NULL DEFAULT overnight_now()
);

-- scope: 'service:<name>' or 'job_type:<name>'
CREATE TABLE pause (
    scope     text PRIMARY KEY,
    reason    text NOT NULL,
    paused_at timestamptz NOT NULL DEFAULT overnight_now()
);

CREATE TABLE alert (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at        timestamptz NOT NULL DEFAULT overnight_now(),
    service   text NOT NULL,
    subject   text NOT NULL,
    message   text NOT NULL
);

-- Messages of other programs, each taken once.
CREATE TABLE inbox_message (
    source      text NOT NULL,
    message_id  text NOT NULL,
    job_id      uuid NOT NULL,
    received_at timestamptz NOT NULL DEFAULT overnight_now(),
    PRIMARY KEY (source, message_id)
);

-- Deliveries without a job row: kept visibly, acked, without effect.
CREATE TABLE stray_message (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    received_at timestamptz NOT NULL DEFAULT overnight_now(),
    queue       text NOT NULL,
    reason      text NOT NULL,
    body        text NOT NULL
);

CREATE TABLE schedule_slot (
    schedule   text NOT NULL,
    local_date date NOT NULL,
    job_id     uuid NOT NULL,
    opened_at  timestamptz NOT NULL DEFAULT overnight_now(),
    PRIMARY KEY (schedule, local_date)
);
"""

DOWN = """
DROP TABLE schedule_slot, stray_message, inbox_message, alert, pause, worker, job_attempt,
    relay_idle, job_outbox, job_queue;
DROP FUNCTION overnight_now();
"""


def up(migrator: Any, db: Any) -> None:
    """Create the queue's tables."""
    db.execute_sql(UP)


def down(migrator: Any, db: Any) -> None:
    """Drop them, with everything in them."""
    db.execute_sql(DOWN)
