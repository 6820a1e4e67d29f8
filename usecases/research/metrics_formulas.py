"""The nine metrics of a quarter's statements, as SQL over the columns of the CTE `quarter`.

    name → numerator, denominator, reason why there is none, vintages of the inputs → OF_STATEMENTS

`p_`, `y_` and `py_` are the prior quarter, the year ago, and the prior quarter's year ago.
"""

_OWN = "vintage::text"
_Y, _P, _PY = (f"coalesce({name}_vintage::text, '-')" for name in ("y", "p", "py"))


def _missing(*lines: str) -> str:
    """Revenue comes first, then the lines in this order."""
    cases = " ".join(f"WHEN {line} IS NULL THEN '{line}_missing'" for line in lines)
    return f"coalesce(reason, CASE {cases} END)"


#: In the order of the primary key, so that inserts are in order without a sort.
_FORMULAS = {
    "fcf_to_revenue": (
        "operating_cash_flow - abs(capital_expenditure)",
        "revenue",
        _missing("operating_cash_flow", "capital_expenditure"),
        _OWN,
    ),
    "gross_margin": ("gross_profit", "revenue", _missing("gross_profit"), _OWN),
    "growth_acceleration": (
        "revenue * py_revenue - p_revenue * y_revenue",
        "y_revenue * py_revenue",
        "CASE WHEN yoy_reason IS NOT NULL THEN 'growth_missing'"
        " WHEN p_vintage IS NULL THEN 'prior_quarter_missing'"
        " WHEN p_yoy_reason IS NOT NULL THEN 'prior_growth_missing' END",
        f"concat_ws('/', vintage, {_Y}, {_P}, {_PY})",
    ),
    "net_margin": ("net_income", "revenue", _missing("net_income"), _OWN),
    "ocf_to_revenue": ("operating_cash_flow", "revenue", _missing("operating_cash_flow"), _OWN),
    "operating_margin": ("operating_income", "revenue", _missing("operating_income"), _OWN),
    "qoq_revenue_growth": (
        "revenue - p_revenue",
        "p_revenue",
        "CASE WHEN revenue IS NULL THEN 'revenue_missing'"
        " WHEN p_vintage IS NULL THEN 'base_period_missing'"
        " WHEN p_revenue IS NULL THEN 'base_revenue_missing'"
        " WHEN p_currency <> currency THEN 'base_currency_differs'"
        " WHEN p_revenue <= 0 THEN 'base_revenue_not_positive' END",
        f"vintage || '/' || {_P}",
    ),
    "revenue_minus_net_debt_to_revenue": (
        "revenue - coalesce(short_term_debt, 0) - coalesce(long_term_debt, 0) + cash",
        "revenue",
        "coalesce(reason, CASE WHEN NOT has_balance_sheet THEN 'balance_sheet_missing'"
        " WHEN cash IS NULL THEN 'cash_missing' END)",
        _OWN,
    ),
    "yoy_revenue_growth": (
        "revenue - y_revenue",
        "y_revenue",
        "yoy_reason",
        f"vintage || '/' || {_Y}",
    ),
}


def _unnested(expressions: list[str]) -> str:
    return f"unnest(ARRAY[{', '.join(expressions)}])"


#: One row per metric, from arrays side by side: expressions of a VALUES list would be prepared
#: anew for every quarter, which took a fifth of the whole.
OF_STATEMENTS = "SELECT company_id, period_end_date, " + ", ".join(
    [
        f"unnest('{{{','.join(_FORMULAS)}}}'::text[]) AS metric_name",
        *(
            f"{_unnested(list(expressions))} AS {column}"
            for column, expressions in zip(
                ("numerator", "denominator", "null_reason", "vintage"),
                zip(*_FORMULAS.values(), strict=True),
                strict=True,
            )
        ),
    ]
)
OF_STATEMENTS += " FROM quarter"
