"""Companies to calculate metrics of: statements, prices and splits, generated in the database.

generate (companies × quarters, × sessions) → as the nightly jobs would have left them
"""

from models.database import execute, transaction

_QUARTERS = """
INSERT INTO statement (company_id, period_type, period_end_date, vintage, is_current, provider,
    currency, reported_date, revenue, gross_profit, operating_income, net_income,
    has_balance_sheet, cash, short_term_debt, long_term_debt, shares_outstanding,
    operating_cash_flow, capital_expenditure, eps_diluted, eps_basis, lines, digest)
SELECT c.id, 'quarter', e.ends, 1, true, 'bench', 'USD', e.ends + 30,
       CASE WHEN r.missing < 0.01 THEN NULL ELSE r.revenue END,
       CASE WHEN r.missing > 0.98 THEN NULL ELSE round(r.revenue * 0.41) END,
       round(r.revenue * 0.2), round(r.revenue * (0.14 - r.missing / 8)),
       r.missing < 0.97, round(r.revenue * 0.6),
       CASE WHEN c.id %% 3 > 0 THEN round(r.revenue * 0.1) END, round(r.revenue * 0.9),
       900000000,
       round(r.revenue * 0.22),
       round(r.revenue * 0.05 * (CASE WHEN c.id %% 2 = 0 THEN -1 ELSE 1 END)),
       CASE WHEN r.missing < 0.99 THEN round(r.revenue * 0.14 / 900000000, 2) END,
       CASE WHEN r.missing < 0.99 THEN 'reported' END, l.lines, 'd'
FROM company c
CROSS JOIN LATERAL generate_series(0, %(quarters)s - 1) AS n (n)
CROSS JOIN LATERAL (SELECT (DATE '2021-03-31' + 91 * n.n) AS ends) AS e
CROSS JOIN LATERAL (
    SELECT round((1e8 + c.id * 12345 + random() * 1e8)::numeric) AS revenue, random() AS missing,
           c.id) AS r
CROSS JOIN (
    SELECT jsonb_object_agg('line' || i, md5(i::text)) AS lines FROM generate_series(1, 60) AS i
) AS l
WHERE (c.id * 31 + n.n * 17) %% 97 > 1
ORDER BY c.id, n.n
"""

_PRICES = """
INSERT INTO daily_price (company_id, session_date, open, high, low, close, adjusted_close, volume,
    provider)
SELECT c.id, DATE '2025-12-31' - (n * 7 / 5), p, p + 1, p - 1, p, p - 0.0125, 1234567, 'bench'
FROM company c
CROSS JOIN generate_series(%(sessions)s - 1, 0, -1) AS n
CROSS JOIN LATERAL (SELECT round((20 + c.id %% 400 + random() * 9)::numeric, 4) AS p) AS r
"""


def generate(companies: int, quarters: int, sessions: int) -> None:
    """Fill an empty database; every company is dirty afterwards.

    About 2 % of the quarters and some lines are missing, capex has both signs, one in a hundred
    companies split its shares.
    """
    given = {"companies": companies, "quarters": quarters, "sessions": sessions}
    with transaction():
        execute("SELECT setseed(0.5)")
        execute(
            "INSERT INTO company (symbol, name, exchange, currency)"
            " SELECT 'B' || n, 'Company', 'NYSE', 'USD'"
            " FROM generate_series(1, %(companies)s) AS n ORDER BY n",
            given,
        )
        execute(_QUARTERS, given)
        execute(_PRICES, given)
        execute(
            "INSERT INTO corporate_action (company_id, kind, effective_date, value, provider)"
            " SELECT id, 'split', DATE '2025-06-09', 4, 'bench' FROM company WHERE id %% 100 = 0",
            given,
        )
        execute("INSERT INTO research_state (company_id) SELECT id FROM company ORDER BY id")
    execute("VACUUM ANALYZE")
