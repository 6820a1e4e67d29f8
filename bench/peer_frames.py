"""The peers: data frames that do the same work, COPY out, COPY into a staging table, upsert.

    .venv-bench/bin/python bench/peer_frames.py polars|pandas URL → what it cost, see cost.py

They read the inputs of dirty companies, compute in float64 (we: exact), and store the same rows,
reasons and vintages in one commit. `bench.metrics` compares what they stored with ours. They run in
an environment of their own (requirements-bench.txt).
"""

import importlib
import io
import sys
from typing import Any

import psycopg2
from cost import Cost

_DIRTY = "SELECT company_id FROM research_state WHERE inputs_revision > metrics_revision"

INPUTS = {
    "quarters": f"""
        SELECT company_id, period_end_date, period_end_date - DATE '1970-01-01' AS day, vintage,
               s.currency, c.currency AS trading_currency, reported_date, revenue, gross_profit,
               operating_income, net_income, has_balance_sheet::int AS has_balance_sheet, cash,
               short_term_debt, long_term_debt, operating_cash_flow, capital_expenditure,
               eps_diluted
        FROM statement s JOIN company c ON c.id = company_id
        WHERE is_current AND period_type = 'quarter' AND company_id IN ({_DIRTY})""",
    "bars": f"""
        SELECT company_id, session_date, close, adjusted_close FROM daily_price
        WHERE company_id IN ({_DIRTY})""",
    "splits": f"""
        SELECT company_id, effective_date, value FROM corporate_action
        WHERE kind = 'split' AND company_id IN ({_DIRTY})""",
}

_STAGE = """
CREATE TEMP TABLE staged (company_id integer, period_end_date date, metric_name text COLLATE "C",
    value numeric, null_reason text, vintage text) ON COMMIT DROP
"""

_REMOVE = f"""
DELETE FROM derived_metric m WHERE company_id IN ({_DIRTY}) AND NOT EXISTS (
    SELECT FROM staged s WHERE s.company_id = m.company_id
        AND s.period_end_date = m.period_end_date AND s.metric_name = m.metric_name)
"""

_UPSERT = """
INSERT INTO derived_metric AS m
    (company_id, period_end_date, metric_name, value, null_reason, vintage)
SELECT * FROM staged
ON CONFLICT (company_id, period_end_date, metric_name) DO UPDATE SET value = excluded.value,
    null_reason = excluded.null_reason, vintage = excluded.vintage, computed_at = overnight_now()
WHERE (m.value, m.null_reason, m.vintage)
    IS DISTINCT FROM (excluded.value, excluded.null_reason, excluded.vintage)
"""


def recalc(connection: Any, frames: Any) -> int:
    """Read, compute, stage, upsert, mark as clean, commit; returns the rows written."""
    with connection, connection.cursor() as cursor:
        texts = {}
        for name, query in INPUTS.items():
            texts[name] = io.BytesIO()
            cursor.copy_expert(f"COPY ({query}) TO STDOUT (FORMAT csv, HEADER)", texts[name])
            texts[name].seek(0)
        staged = frames.metrics(**{name: frames.read(text) for name, text in texts.items()})
        cursor.execute(_STAGE)
        cursor.copy_expert("COPY staged FROM STDIN (FORMAT csv)", staged)
        cursor.execute(_REMOVE)
        cursor.execute(_UPSERT)
        rows: int = cursor.rowcount
        cursor.execute(
            "UPDATE research_state SET metrics_revision = inputs_revision"
            " WHERE inputs_revision > metrics_revision"
        )
    return rows


def main() -> None:
    """See the module's docstring."""
    library, url = sys.argv[1:]
    frames = importlib.import_module(f"peer_{library}")
    connection = psycopg2.connect(url)
    cost = Cost(connection.info.backend_pid)
    cost.report(recalc(connection, frames))
    connection.close()


if __name__ == "__main__":
    main()
