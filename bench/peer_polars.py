"""The thirteen metrics in polars; see peer_frames.py."""

import io

import polars as pl

KEY = ["company_id", "period_end_date"]
DATES = ("period_end_date", "reported_date", "session_date", "effective_date")
AMOUNTS = ("revenue", "gross_profit", "operating_income", "net_income", "cash", "short_term_debt")
AMOUNTS += ("long_term_debt", "operating_cash_flow", "capital_expenditure", "eps_diluted")
AMOUNTS += ("close", "adjusted_close", "value")


def read(text: io.BytesIO) -> pl.DataFrame:
    """A frame of what COPY wrote."""
    header = text.getvalue()[:1000].split(b"\n", 1)[0].decode().split(",")
    types = {name: pl.Date for name in header if name in DATES}
    types |= {name: pl.Float64 for name in header if name in AMOUNTS}
    return pl.read_csv(text, schema_overrides=types)


def metrics(quarters: pl.DataFrame, bars: pl.DataFrame, splits: pl.DataFrame) -> io.BytesIO:
    """All metrics as COPY reads them, in the order of their key."""
    q = _with_bases(quarters.sort("company_id", "day"))
    newest = q.group_by("company_id", maintain_order=True).last()
    bars = bars.sort("company_id", "session_date")
    last = bars.group_by("company_id", maintain_order=True).last()
    newest = newest.join(last, on="company_id", how="left")
    rows = pl.concat([*_of_statements(q), _pe(q, newest, splits), *_momenta(newest, bars)])
    text = io.BytesIO()
    rows.sort("company_id", "period_end_date", "metric_name").write_csv(
        text, include_header=False, float_precision=12
    )
    text.seek(0)
    return text


def _with_bases(q: pl.DataFrame) -> pl.DataFrame:
    q = _earlier(q, q.select("company_id", "day", "vintage", "currency", "revenue"), 350, 380, "y_")
    q = q.with_columns(yoy_reason=_growth_reason("y_"))
    base = ["company_id", "day", "vintage", "currency", "revenue"]
    base += ["y_vintage", "y_revenue", "yoy_reason"]
    return _earlier(q, q.select(base), 80, 100, "p_")


def _earlier(
    q: pl.DataFrame, base: pl.DataFrame, least: int, most: int, prefix: str
) -> pl.DataFrame:
    """The newest row that lies `least` to `most` days earlier."""
    renamed = {name: prefix + name for name in base.columns if name != "company_id"}
    return q.with_columns(until=pl.col("day") - least).join_asof(
        base.rename(renamed),
        left_on="until",
        right_on=f"{prefix}day",
        by="company_id",
        strategy="backward",
        tolerance=most - least,
        check_sortedness=False,
        coalesce=False,
    )


def _first(*cases: tuple[pl.Expr, str]) -> pl.Expr:
    """The text of the first case that holds."""
    return pl.coalesce(pl.when(case).then(pl.lit(text)) for case, text in cases)


def _growth_reason(prefix: str) -> pl.Expr:
    revenue = pl.col(f"{prefix}revenue")
    return _first(
        (pl.col("revenue").is_null(), "revenue_missing"),
        (pl.col(f"{prefix}vintage").is_null(), "base_period_missing"),
        (revenue.is_null(), "base_revenue_missing"),
        (pl.col(f"{prefix}currency") != pl.col("currency"), "base_currency_differs"),
        (revenue <= 0, "base_revenue_not_positive"),
    )


def _vintages(*names: str) -> pl.Expr:
    return pl.concat_str([pl.col(n).cast(pl.String).fill_null("-") for n in names], separator="/")


def _rows(
    frame: pl.DataFrame, name: str, value: pl.Expr, reason: pl.Expr, vintage: pl.Expr
) -> pl.DataFrame:
    return frame.select(
        *KEY,
        metric_name=pl.lit(name),
        value=pl.when(reason.is_null()).then(value),
        null_reason=reason,
        vintage=vintage,
    )


def _of_statements(q: pl.DataFrame) -> list[pl.DataFrame]:
    revenue = pl.col("revenue")
    q = q.with_columns(
        reason=_first(
            (revenue.is_null(), "revenue_missing"), (revenue <= 0, "revenue_not_positive")
        ),
        own=_vintages("vintage"),
    )
    yoy = revenue / pl.col("y_revenue") - 1
    acceleration = _first(
        (pl.col("yoy_reason").is_not_null(), "growth_missing"),
        (pl.col("p_vintage").is_null(), "prior_quarter_missing"),
        (pl.col("p_yoy_reason").is_not_null(), "prior_growth_missing"),
    )
    growth = (
        ("yoy_revenue_growth", yoy, pl.col("yoy_reason"), _vintages("vintage", "y_vintage")),
        (
            "qoq_revenue_growth",
            revenue / pl.col("p_revenue") - 1,
            _growth_reason("p_"),
            _vintages("vintage", "p_vintage"),
        ),
        (
            "growth_acceleration",
            yoy - (pl.col("p_revenue") / pl.col("p_y_revenue") - 1),
            acceleration,
            _vintages("vintage", "y_vintage", "p_vintage", "p_y_vintage"),
        ),
    )
    cash_flow, capex = pl.col("operating_cash_flow"), pl.col("capital_expenditure")
    debt = pl.col("short_term_debt").fill_null(0) + pl.col("long_term_debt").fill_null(0)
    no_ocf = (cash_flow.is_null(), "operating_cash_flow_missing")
    of_revenue = (
        ("gross_margin", pl.col("gross_profit"), [_missing("gross_profit")]),
        ("operating_margin", pl.col("operating_income"), [_missing("operating_income")]),
        ("net_margin", pl.col("net_income"), [_missing("net_income")]),
        ("ocf_to_revenue", cash_flow, [no_ocf]),
        ("fcf_to_revenue", cash_flow - capex.abs(), [no_ocf, _missing("capital_expenditure")]),
        (
            "revenue_minus_net_debt_to_revenue",
            revenue - debt + pl.col("cash"),
            [(pl.col("has_balance_sheet") == 0, "balance_sheet_missing"), _missing("cash")],
        ),
    )
    return [_rows(q, *each) for each in growth] + [
        _rows(q, name, line / revenue, pl.coalesce("reason", _first(*cases)), pl.col("own"))
        for name, line, cases in of_revenue
    ]


def _missing(line: str) -> tuple[pl.Expr, str]:
    return pl.col(line).is_null(), f"{line}_missing"


def _pe(q: pl.DataFrame, newest: pl.DataFrame, splits: pl.DataFrame) -> pl.DataFrame:
    each = newest.select("company_id", "session_date", "day", "p_day")
    parts = []
    columns = ["company_id", "day", "p_day", "period_end_date", "vintage", "currency"]
    columns += ["reported_date", "eps_diluted"]
    wanted = each.select("company_id", "session_date", wanted="day")
    for place in range(4):
        found = wanted.join(
            q.select(columns), left_on=["company_id", "wanted"], right_on=["company_id", "day"]
        )
        parts.append(found.with_columns(place=pl.lit(place)))
        wanted = found.select("company_id", "session_date", wanted="p_day")
    chain = pl.concat(parts)
    known = pl.coalesce("reported_date", "period_end_date")
    effective = pl.col("effective_date")
    after = (effective > known) & (effective <= pl.col("session_date"))
    unsure = pl.col("reported_date").is_null() & (
        effective <= pl.col("period_end_date") + pl.duration(days=120)
    )
    rebased = (
        chain.join(splits, on="company_id", how="inner")
        .filter(after)
        .group_by("company_id", "place")
        .agg(ratio=pl.col("value").product(), is_unsure=unsure.any())
    )
    chain = chain.join(rebased, on=["company_id", "place"], how="left")
    vintage = pl.col("vintage").cast(pl.String)
    sums = chain.group_by("company_id").agg(
        count=pl.len(),
        is_foreign=(pl.col("currency") != pl.col("currency").first()).any(),
        chain_currency=pl.col("currency").first(),
        no_eps=pl.col("eps_diluted").is_null().any(),
        is_unsure=pl.col("is_unsure").fill_null(False).any(),
        earnings=(pl.col("eps_diluted") / pl.col("ratio").fill_null(1)).sum(),
        **{f"v{n}": vintage.filter(pl.col("place") == n).first() for n in range(4)},
    )
    n = newest.join(sums, on="company_id", how="left")
    reason = _first(
        (pl.col("close").is_null(), "price_missing"),
        (pl.col("count") < 4, "fewer_than_four_quarters"),
        (
            pl.col("is_foreign") | (pl.col("chain_currency") != pl.col("trading_currency")),
            "trading_currency_differs",
        ),
        (pl.col("no_eps"), "eps_missing"),
        (pl.col("is_unsure"), "split_basis_unknown"),
        (pl.col("earnings") <= 0, "earnings_not_positive"),
    )
    session = pl.col("session_date").cast(pl.String).fill_null("-")
    label = _vintages("v0", "v1", "v2", "v3") + "@" + session
    return _rows(n, "pe_ratio", pl.col("close") / pl.col("earnings"), reason, label)


def _momenta(newest: pl.DataFrame, bars: pl.DataFrame) -> list[pl.DataFrame]:
    made = []
    base = bars.select("company_id", base_date="session_date", base_close="adjusted_close")
    for months in (1, 3, 6):
        n = newest.with_columns(back=pl.col("session_date").dt.offset_by(f"-{months}mo")).join_asof(
            base,
            left_on="back",
            right_on="base_date",
            by="company_id",
            strategy="backward",
            check_sortedness=False,
            coalesce=False,
        )
        reason = _first(
            (pl.col("close").is_null(), "price_missing"),
            (pl.col("base_date").is_null(), "history_too_short"),
            (
                pl.col("adjusted_close").is_null() | pl.col("base_close").is_null(),
                "adjusted_close_missing",
            ),
        )
        value = pl.col("adjusted_close") / pl.col("base_close") - 1
        label = "@" + _vintages("session_date", "base_date")
        made.append(_rows(n, f"momentum_{months}m", value, reason, label))
    return made
