"""Research data: companies, prices, statements, metrics, and the runs that fetch them."""

from typing import Any

UP = """
CREATE TABLE company (
    id                 integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    symbol             text NOT NULL UNIQUE CHECK (symbol <> ''),
    name               text NOT NULL,
    exchange           text NOT NULL,
    currency           text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    cik                text,                       -- the SEC's number, digits only
    active             boolean NOT NULL DEFAULT true,   -- still listed
    tracked            boolean NOT NULL DEFAULT true,   -- we want its data every night
    shares_outstanding numeric CHECK (shares_outstanding > 0),
    shares_as_of       date,
    market_cap         numeric,                    -- in `currency`; of market_cap_on's raw close
    market_cap_on      date,
    market_cap_note    text,                       -- why an older value was kept
    next_earnings_date date,                       -- as announced; may have passed
    last_report_date   date,                       -- the newest announced date that has passed
    added_at           timestamptz NOT NULL DEFAULT overnight_now()
);

-- What the metrics of a company were made of: writers raise the one, metrics_recalc the other.
CREATE TABLE research_state (
    company_id       integer PRIMARY KEY REFERENCES company ON DELETE CASCADE,
    inputs_revision  bigint NOT NULL DEFAULT 1,
    metrics_revision bigint NOT NULL DEFAULT 0 CHECK (metrics_revision <= inputs_revision)
) WITH (fillfactor = 70);

-- When a job last heard an answer about a company: whoever waits longest is asked first.
CREATE TABLE research_check (
    company_id integer NOT NULL REFERENCES company ON DELETE CASCADE,
    job        text NOT NULL,
    checked_at timestamptz NOT NULL,
    PRIMARY KEY (company_id, job)
) WITH (fillfactor = 80);

CREATE TABLE daily_price (
    company_id     integer NOT NULL REFERENCES company ON DELETE CASCADE,
    session_date   date NOT NULL,
    open           numeric,
    high           numeric,
    low            numeric,
    close          numeric NOT NULL CHECK (close > 0),           -- raw, as traded
    adjusted_close numeric CHECK (adjusted_close > 0),           -- the vendor's
    volume         bigint CHECK (volume >= 0),
    provider       text NOT NULL,
    fetched_at     timestamptz NOT NULL DEFAULT overnight_now(),
    PRIMARY KEY (company_id, session_date)
);

CREATE TABLE corporate_action (
    company_id     integer NOT NULL REFERENCES company ON DELETE CASCADE,
    kind           text NOT NULL CHECK (kind IN ('split', 'dividend')),
    effective_date date NOT NULL,
    value          numeric NOT NULL CHECK (value > 0),  -- split: new per old; dividend: cash
    provider       text NOT NULL,
    fetched_at     timestamptz NOT NULL DEFAULT overnight_now(),
    PRIMARY KEY (company_id, kind, effective_date)
);

CREATE TABLE fx_rate (
    base       text NOT NULL CHECK (base ~ '^[A-Z]{3}$'),
    quote      text NOT NULL CHECK (quote ~ '^[A-Z]{3}$'),
    rate_date  date NOT NULL,
    rate       numeric NOT NULL CHECK (rate > 0),                -- quote per one base
    provider   text NOT NULL,
    fetched_at timestamptz NOT NULL DEFAULT overnight_now(),
    PRIMARY KEY (base, quote, rate_date)
);

-- One company-period of one provider: income statement, balance sheet and cash flow together, so
-- that two providers never mix inside it. What was restated is a new vintage; old ones stay.
CREATE TABLE statement (
    company_id             integer NOT NULL REFERENCES company ON DELETE CASCADE,
    period_type            text NOT NULL CHECK (period_type IN ('quarter', 'annual')),
    period_end_date        date NOT NULL,
    vintage                integer NOT NULL CHECK (vintage >= 1),
    is_current             boolean NOT NULL,
    provider               text NOT NULL,
    provider_reason        text,               -- why not the first tier
    currency               text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    reported_date          date,               -- when the company published it
    revenue                numeric,
    gross_profit           numeric,
    operating_income       numeric,
    net_income             numeric,
    has_balance_sheet      boolean NOT NULL,
    cash                   numeric,            -- cash and cash equivalents
    short_term_debt        numeric,
    long_term_debt         numeric,
    shares_outstanding     numeric,
    operating_cash_flow    numeric,
    capital_expenditure    numeric,            -- with the feed's sign
    eps_diluted            numeric,            -- of the quarter, as reported at the time
    eps_basis              text CHECK (eps_basis IN ('reported', 'derived', 'unverified')),
    lines                  jsonb NOT NULL,     -- every line of the three, as the provider gave it
    digest                 text NOT NULL,      -- of `lines`: the same again is no new vintage
    fetched_at             timestamptz NOT NULL DEFAULT overnight_now(),
    PRIMARY KEY (company_id, period_type, period_end_date, vintage),
    CHECK ((eps_diluted IS NULL) = (eps_basis IS NULL))
);
CREATE UNIQUE INDEX statement_current ON statement (company_id, period_type, period_end_date)
    WHERE is_current;

CREATE TABLE document (
    id           uuid PRIMARY KEY,
    company_id   integer NOT NULL REFERENCES company ON DELETE CASCADE,
    kind         text NOT NULL CHECK (kind IN ('filing', 'transcript')),
    document_key text NOT NULL,                -- accession number, or symbol and quarter
    form         text,
    filed_on     date,
    title        text NOT NULL,
    source       text NOT NULL,                -- where it came from, without secrets
    provider     text NOT NULL,
    sha256       text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    size_bytes   bigint NOT NULL CHECK (size_bytes > 0),
    file         text NOT NULL,                -- under DOCUMENTS_PATH
    fetched_at   timestamptz NOT NULL DEFAULT overnight_now(),
    UNIQUE (company_id, kind, document_key)
);

-- Without a foreign key, which took a third of a recalculation: its rows are written under the lock
-- of their company's research_state, and a trigger deletes them with the company.
CREATE TABLE derived_metric (
    company_id      integer NOT NULL,
    period_end_date date NOT NULL,
    metric_name     text COLLATE "C" NOT NULL, -- compared as bytes
    value           numeric,                   -- 12 decimal places
    null_reason     text,
    vintage         text NOT NULL,             -- of the inputs: statement vintages, price sessions
    computed_at     timestamptz NOT NULL DEFAULT overnight_now(),
    PRIMARY KEY (company_id, period_end_date, metric_name),
    CHECK ((value IS NULL) <> (null_reason IS NULL))
);

CREATE FUNCTION derived_metric_of_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM derived_metric m USING deleted d WHERE m.company_id = d.id;
    RETURN NULL;
END $$;
CREATE TRIGGER company_deleted AFTER DELETE ON company REFERENCING OLD TABLE AS deleted
    FOR EACH STATEMENT EXECUTE FUNCTION derived_metric_of_deleted();

-- Splits multiply, exactly.
CREATE AGGREGATE product(numeric) (SFUNC = numeric_mul, STYPE = numeric);

-- One run of one research job; the six of a night share `nightly_id`.
CREATE TABLE job_run (
    id          uuid PRIMARY KEY,
    job         text NOT NULL,
    nightly_id  uuid NOT NULL,
    position    integer NOT NULL,              -- in the night's order
    trigger     text NOT NULL CHECK (trigger IN ('slot', 'manual')),
    slot_id     text,
    created_at  timestamptz NOT NULL DEFAULT overnight_now(),
    started_at  timestamptz,
    finished_at timestamptz,
    outcome     text CHECK (outcome IN ('completed', 'partial', 'failed', 'refused')),
    reason      text,
    stalls      integer NOT NULL DEFAULT 0,    -- pages in a row that a provider's outage ended
    processed   integer NOT NULL DEFAULT 0,
    updated     integer NOT NULL DEFAULT 0,
    skipped     integer NOT NULL DEFAULT 0,
    errors      integer NOT NULL DEFAULT 0,
    UNIQUE (nightly_id, job),
    UNIQUE (nightly_id, position),
    CHECK ((outcome IS NULL) = (finished_at IS NULL)),
    CHECK (processed = updated + skipped + errors)
);
-- Two runs of one job never overlap, not even one that only waits for its turn in a night.
CREATE UNIQUE INDEX job_run_open ON job_run (job) WHERE finished_at IS NULL;
CREATE INDEX job_run_created_at ON job_run (created_at);

CREATE TABLE job_run_item (
    run_id     uuid NOT NULL REFERENCES job_run ON DELETE CASCADE,
    item_key   text NOT NULL,                  -- a company's id, or what else the job works through
    position   integer NOT NULL,               -- stalest first
    status     text NOT NULL DEFAULT 'waiting'
        CHECK (status IN ('waiting', 'updated', 'skipped', 'error')),
    reason     text,                           -- without ids and dates: reports group by it
    detail     text,
    left_out   boolean NOT NULL DEFAULT false, -- wanted and not done: the run is partial
    provider   text,
    provider_reason text,                      -- why not the first tier
    tries      integer NOT NULL DEFAULT 0,
    deaths     integer NOT NULL DEFAULT 0,     -- workers that died with only this in hand
    at         timestamptz,
    PRIMARY KEY (run_id, item_key),
    CHECK (NOT left_out OR (status IN ('skipped', 'error') AND reason IS NOT NULL))
) WITH (fillfactor = 80);
CREATE INDEX job_run_item_waiting ON job_run_item (run_id, position) WHERE status = 'waiting';

-- What a provider's open windows have used: one row, so that one statement reserves in all three.
CREATE TABLE provider_budget (
    provider     text PRIMARY KEY,
    second_start timestamptz NOT NULL,         -- the first request of the open second and minute
    second_used  integer NOT NULL CHECK (second_used >= 0),
    minute_start timestamptz NOT NULL,
    minute_used  integer NOT NULL CHECK (minute_used >= 0),
    day_start    timestamptz NOT NULL,         -- midnight where the provider is
    day_used     integer NOT NULL CHECK (day_used >= 0)
) WITH (fillfactor = 50);
CREATE TABLE provider_block (
    provider      text PRIMARY KEY,
    blocked_until timestamptz NOT NULL,        -- Retry-After, an exhausted day, a refused key
    reason        text NOT NULL
);

ALTER TABLE schedule_slot ADD COLUMN outcome text NOT NULL DEFAULT 'opened'
    CHECK (outcome IN ('opened', 'superseded', 'refused'));
ALTER TABLE schedule_slot ADD COLUMN reason text;
ALTER TABLE schedule_slot ALTER COLUMN job_id DROP NOT NULL;
ALTER TABLE schedule_slot ADD CHECK ((job_id IS NULL) = (outcome <> 'opened'));
"""

DOWN = """
DELETE FROM schedule_slot WHERE job_id IS NULL;
ALTER TABLE schedule_slot DROP COLUMN reason, DROP COLUMN outcome;
ALTER TABLE schedule_slot ALTER COLUMN job_id SET NOT NULL;
DROP TABLE provider_block, provider_budget, job_run_item, job_run, derived_metric, document,
    statement, fx_rate, corporate_action, daily_price, research_check, research_state, company;
DROP FUNCTION derived_metric_of_deleted();
DROP AGGREGATE product(numeric);
"""


def up(migrator: Any, db: Any) -> None:
    """Create the tables of research data."""
    db.execute_sql(UP)


def down(migrator: Any, db: Any) -> None:
    """Drop them again."""
    db.execute_sql(DOWN)
