"""The statement that recalculates the metrics of a batch of companies.

    dirty → quarter → growth, newest → ratio (numerator, denominator, reason) → computed → change

One snapshot: what it reads, the revision it marks and what it writes belong together. Every metric
is one exact fraction that is divided and rounded once; docs/metrics.md has the formulas.
"""

from decimal import Decimal

from domain.metrics import (
    PRIOR_QUARTER_DAYS,
    REPORTED_WITHIN_DAYS,
    STORED_PLACES,
    YEAR_AGO_DAYS,
)
from usecases.research.metrics_formulas import OF_STATEMENTS

#: The companies to do, with the revision of their inputs that this snapshot sees.
_DIRTY = """
dirty AS MATERIALIZED (
    SELECT s.company_id, s.inputs_revision, c.currency AS trading_currency
    FROM research_state s JOIN company c ON c.id = s.company_id
    WHERE s.company_id = ANY (%(companies)s) AND s.inputs_revision > s.metrics_revision
)
"""

#: Each current quarter with the one a year before it. A window of days, never of rows.
_YEAR_AGO = """
with_year_ago AS (
    SELECT s.company_id, s.period_end_date, s.vintage, s.currency, s.reported_date, s.revenue,
           s.gross_profit, s.operating_income, s.net_income, s.has_balance_sheet, s.cash,
           s.short_term_debt, s.long_term_debt, s.operating_cash_flow, s.capital_expenditure,
           s.eps_diluted, s.period_end_date - DATE '1970-01-01' AS day,
           last_value(s.vintage) OVER year_ago AS y_vintage,
           last_value(s.currency) OVER year_ago AS y_currency,
           last_value(s.revenue) OVER year_ago AS y_revenue
    FROM dirty d CROSS JOIN LATERAL (
        SELECT * FROM statement s WHERE s.company_id = d.company_id
            AND s.period_type = 'quarter' AND s.is_current OFFSET 0
    ) AS s
    WINDOW year_ago AS (
        PARTITION BY s.company_id ORDER BY s.period_end_date - DATE '1970-01-01'
        RANGE BETWEEN %(year_ago_to)s PRECEDING AND %(year_ago_from)s PRECEDING)
)
"""

_YOY = """
yoy AS (
    SELECT *, CASE
        WHEN revenue IS NULL THEN 'revenue_missing'
        WHEN y_vintage IS NULL THEN 'base_period_missing'
        WHEN y_revenue IS NULL THEN 'base_revenue_missing'
        WHEN y_currency <> currency THEN 'base_currency_differs'
        WHEN y_revenue <= 0 THEN 'base_revenue_not_positive' END AS yoy_reason
    FROM with_year_ago
)
"""

#: … with the quarter before it, and that one's growth.
_QUARTER = """
quarter AS MATERIALIZED (
    SELECT *,
           last_value(vintage) OVER prior AS p_vintage,
           last_value(period_end_date) OVER prior AS p_period,
           last_value(currency) OVER prior AS p_currency,
           last_value(revenue) OVER prior AS p_revenue,
           last_value(y_vintage) OVER prior AS py_vintage,
           last_value(y_revenue) OVER prior AS py_revenue,
           last_value(yoy_reason) OVER prior AS p_yoy_reason,
           lead(day) OVER (PARTITION BY company_id ORDER BY day) IS NULL AS is_newest,
           CASE WHEN revenue IS NULL THEN 'revenue_missing'
                WHEN revenue <= 0 THEN 'revenue_not_positive' END AS reason
    FROM yoy
    WINDOW prior AS (
        PARTITION BY company_id ORDER BY day
        RANGE BETWEEN %(prior_to)s PRECEDING AND %(prior_from)s PRECEDING)
)
"""

#: The newest quarter, the three before it (each the prior one of the next), and the last price.
_NEWEST = """
newest AS MATERIALIZED (
    SELECT q.company_id, q.period_end_date, d.trading_currency, last.*,
           q.vintage || '/' || coalesce(q2.vintage::text, '-') || '/'
               || coalesce(q3.vintage::text, '-') || '/' || coalesce(q4.vintage::text, '-')
               || '@' || coalesce(last.session_date::text, '-') AS pe_vintage,
           q4.company_id IS NOT NULL AS has_four,
           q.currency <> d.trading_currency OR q2.currency <> d.trading_currency
               OR q3.currency <> d.trading_currency OR q4.currency <> d.trading_currency
               AS currency_differs,
           ARRAY[q.eps_diluted, q2.eps_diluted, q3.eps_diluted, q4.eps_diluted] AS eps,
           ARRAY[q.period_end_date, q2.period_end_date, q3.period_end_date, q4.period_end_date]
               AS ends,
           ARRAY[q.reported_date, q2.reported_date, q3.reported_date, q4.reported_date] AS reported
    FROM quarter q JOIN dirty d USING (company_id)
    LEFT JOIN quarter q2 ON q2.company_id = q.company_id AND q2.period_end_date = q.p_period
    LEFT JOIN quarter q3 ON q3.company_id = q.company_id AND q3.period_end_date = q2.p_period
    LEFT JOIN quarter q4 ON q4.company_id = q.company_id AND q4.period_end_date = q3.p_period
    LEFT JOIN LATERAL (
        SELECT session_date, close, adjusted_close FROM daily_price p
        WHERE p.company_id = q.company_id ORDER BY session_date DESC LIMIT 1
    ) AS last ON true
    WHERE q.is_newest
)
"""

#: EPS on the basis of the last price. Over the product of all splits up to it, an EPS counts times
#: those that it already knew: the same as dividing it by those it did not, and exact.
_PE = """
SELECT n.company_id, n.period_end_date, 'pe_ratio', n.close * s.ratio, s.earnings, CASE
        WHEN n.close IS NULL THEN 'price_missing'
        WHEN NOT n.has_four THEN 'fewer_than_four_quarters'
        WHEN n.currency_differs THEN 'trading_currency_differs'
        WHEN array_position(n.eps, NULL) IS NOT NULL THEN 'eps_missing'
        WHEN s.is_unsure THEN 'split_basis_unknown'
        WHEN s.earnings <= 0 THEN 'earnings_not_positive' END, n.pe_vintage
FROM newest n CROSS JOIN LATERAL (
    SELECT min(known.ratio) AS ratio, sum(known.eps * known.factor) AS earnings,
           bool_or(known.is_unsure) AS is_unsure
    FROM (
        SELECT e.eps, coalesce(product(a.value), 1) AS ratio,
               coalesce(product(a.value) FILTER (
                   WHERE a.effective_date <= coalesce(e.reported, e.period_end)), 1) AS factor,
               coalesce(bool_or(e.reported IS NULL AND a.effective_date > e.period_end
                   AND a.effective_date <= e.period_end + %(reported_within)s), false)
                   AS is_unsure
        FROM unnest(n.eps, n.ends, n.reported) AS e (eps, period_end, reported)
        LEFT JOIN corporate_action a ON a.company_id = n.company_id AND a.kind = 'split'
            AND a.effective_date <= n.session_date
        GROUP BY e.period_end, e.eps
    ) AS known
) AS s
"""

#: The base is the last bar on or before the day n months earlier; a month's end clamps the day.
_MOMENTUM = """
SELECT n.company_id, n.period_end_date, m.name,
       n.adjusted_close - base.adjusted_close, base.adjusted_close, CASE
        WHEN n.close IS NULL THEN 'price_missing'
        WHEN base.session_date IS NULL THEN 'history_too_short'
        WHEN n.adjusted_close IS NULL OR base.adjusted_close IS NULL
            THEN 'adjusted_close_missing' END,
       '@' || coalesce(n.session_date::text, '-') || '/' || coalesce(base.session_date::text, '-')
FROM newest n CROSS JOIN (VALUES
    ('momentum_1m', interval '1 month'), ('momentum_3m', interval '3 months'),
    ('momentum_6m', interval '6 months')) AS m (name, back)
LEFT JOIN LATERAL (
    SELECT session_date, adjusted_close FROM daily_price p
    WHERE p.company_id = n.company_id AND p.session_date <= (n.session_date - m.back)::date
    ORDER BY session_date DESC LIMIT 1
) AS base ON true
"""

_RATIO = f"ratio AS ({' UNION ALL '.join((OF_STATEMENTS, _PE, _MOMENTUM))})"

#: `div` cuts off toward zero and is exact, so half a unit is added first: rounding, once.
_COMPUTED = """
computed AS (
    SELECT company_id, period_end_date, metric_name, CASE WHEN null_reason IS NULL THEN
               div(numerator * %(two_units)s + sign(numerator) * denominator, 2 * denominator)
               * %(unit)s END AS value,
           null_reason, vintage
    FROM ratio
)
"""

#: What differs from what is stored; without a vintage: what no longer belongs there.
_CHANGE = """
change AS MATERIALIZED (
    SELECT company_id, period_end_date, metric_name, c.value, c.null_reason, c.vintage,
           m.ctid AS row
    FROM computed c FULL JOIN (
        SELECT m.* FROM dirty d CROSS JOIN LATERAL (
            SELECT m.*, m.ctid FROM derived_metric m WHERE m.company_id = d.company_id OFFSET 0
        ) AS m
    ) AS m USING (company_id, period_end_date, metric_name)
    WHERE (c.value, c.null_reason, c.vintage) IS DISTINCT FROM (m.value, m.null_reason, m.vintage)
)
"""

#: Nobody else writes these rows: the lock on research_state is ours. Their addresses are given as
#: an array, because the planner would hash the whole table to join it by address.
_WRITE = """
inserted AS (
    INSERT INTO derived_metric
        (company_id, period_end_date, metric_name, value, null_reason, vintage)
    SELECT company_id, period_end_date, metric_name, value, null_reason, vintage
    FROM change WHERE row IS NULL
), updated AS (
    UPDATE derived_metric m SET value = c.value, null_reason = c.null_reason, vintage = c.vintage,
        computed_at = overnight_now()
    FROM change c WHERE m.ctid = c.row AND c.vintage IS NOT NULL
        AND m.ctid = ANY (ARRAY(SELECT row FROM change WHERE row IS NOT NULL))
), removed AS (
    DELETE FROM derived_metric
    WHERE ctid = ANY (ARRAY(SELECT row FROM change WHERE vintage IS NULL))
), cleaned AS (
    UPDATE research_state s SET metrics_revision = d.inputs_revision
    FROM dirty d WHERE s.company_id = d.company_id
)
SELECT d.company_id, count(c.vintage), count(c.company_id) - count(c.vintage)
FROM dirty d LEFT JOIN change c USING (company_id) GROUP BY d.company_id ORDER BY d.company_id
"""

#: Returns company_id, rows written, rows removed. Parameters: these, and `companies`, an array.
RECALC = "WITH" + ",".join(
    (_DIRTY, _YEAR_AGO, _YOY, _QUARTER, _NEWEST, _RATIO, _COMPUTED, _CHANGE, _WRITE)
)
RULES = {
    "prior_from": PRIOR_QUARTER_DAYS[0],
    "prior_to": PRIOR_QUARTER_DAYS[1],
    "year_ago_from": YEAR_AGO_DAYS[0],
    "year_ago_to": YEAR_AGO_DAYS[1],
    "reported_within": REPORTED_WITHIN_DAYS,
    "unit": Decimal(1).scaleb(-STORED_PLACES),
    "two_units": 2 * 10**STORED_PLACES,
}
