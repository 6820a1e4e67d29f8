"""The thirteen metrics in pandas; see peer_frames.py."""

import io

import numpy as np
import pandas as pd

KEY = ["company_id", "period_end_date"]
DATES = ("period_end_date", "reported_date", "session_date", "effective_date")
BASE = ["company_id", "day", "vintage", "currency", "revenue"]
Cases = list[tuple["pd.Series", str]]


def read(text: io.BytesIO) -> pd.DataFrame:
    """A frame of what COPY wrote."""
    header = text.getvalue()[:1000].split(b"\n", 1)[0].decode().split(",")
    return pd.read_csv(text, parse_dates=[name for name in header if name in DATES])


def metrics(quarters: pd.DataFrame, bars: pd.DataFrame, splits: pd.DataFrame) -> io.BytesIO:
    """All metrics as COPY reads them, in the order of their key."""
    q = quarters.sort_values("day", kind="stable")
    q = _earlier(q, q[BASE], 350, 380, "y_")
    q["yoy_reason"] = _growth_reason(q, "y_")
    q = _earlier(q, q[[*BASE, "y_vintage", "y_revenue", "yoy_reason"]], 80, 100, "p_")
    newest = q.drop_duplicates("company_id", keep="last")
    bars = bars.sort_values("session_date", kind="stable")
    last = bars.drop_duplicates("company_id", keep="last")
    newest = newest.merge(last, on="company_id", how="left")
    rows = pd.concat([*_of_statements(q), _pe(q, newest, splits), *_momenta(newest, bars)])
    rows = rows.sort_values([*KEY, "metric_name"])
    text = io.StringIO()
    rows.to_csv(text, header=False, index=False, float_format="%.12f", date_format="%Y-%m-%d")
    text.seek(0)
    return text  # type: ignore[return-value] # COPY reads characters as well


def _earlier(
    q: pd.DataFrame, base: pd.DataFrame, least: int, most: int, prefix: str
) -> pd.DataFrame:
    """The newest row that lies `least` to `most` days earlier."""
    renamed = base.rename(columns={c: prefix + c for c in base.columns if c != "company_id"})
    return pd.merge_asof(
        q.assign(until=q["day"] - least),
        renamed,
        left_on="until",
        right_on=f"{prefix}day",
        by="company_id",
        tolerance=most - least,
    )


def _first(cases: Cases, otherwise: "pd.Series | None" = None) -> "pd.Series":
    """The text of the first case that holds."""
    index = cases[0][0].index
    none = np.full(len(index), None, dtype=object)
    chosen = np.select(
        [case.to_numpy(dtype=bool) for case, _ in cases],
        [np.full(len(index), text, dtype=object) for _, text in cases],
        none if otherwise is None else otherwise.to_numpy(dtype=object),
    )
    return pd.Series(chosen, index=index, dtype=object)


def _growth_reason(q: pd.DataFrame, prefix: str) -> "pd.Series":
    revenue = q[f"{prefix}revenue"]
    return _first(
        [
            (q["revenue"].isna(), "revenue_missing"),
            (q[f"{prefix}vintage"].isna(), "base_period_missing"),
            (revenue.isna(), "base_revenue_missing"),
            (q[f"{prefix}currency"] != q["currency"], "base_currency_differs"),
            (revenue <= 0, "base_revenue_not_positive"),
        ]
    )


def _vintages(frame: pd.DataFrame, *names: str) -> "pd.Series":
    texts = [frame[name].astype("Int64").astype("string").fillna("-") for name in names]
    label = texts[0]
    for text in texts[1:]:
        label = label + "/" + text
    return label


def _session(dates: "pd.Series") -> "pd.Series":
    return dates.dt.strftime("%Y-%m-%d").astype("string").fillna("-")


def _rows(
    frame: pd.DataFrame, name: str, value: "pd.Series", reason: "pd.Series", vintage: "pd.Series"
) -> pd.DataFrame:
    made = frame[KEY].copy()
    made["metric_name"] = name
    made["value"] = value.where(reason.isna())
    made["null_reason"] = reason
    made["vintage"] = vintage
    return made


def _of_statements(q: pd.DataFrame) -> list[pd.DataFrame]:
    revenue, own = q["revenue"], _vintages(q, "vintage")
    yoy = revenue / q["y_revenue"] - 1
    acceleration: Cases = [
        (q["yoy_reason"].notna(), "growth_missing"),
        (q["p_vintage"].isna(), "prior_quarter_missing"),
        (q["p_yoy_reason"].notna(), "prior_growth_missing"),
    ]
    made = [
        _rows(q, "yoy_revenue_growth", yoy, q["yoy_reason"], _vintages(q, "vintage", "y_vintage")),
        _rows(
            q,
            "qoq_revenue_growth",
            revenue / q["p_revenue"] - 1,
            _growth_reason(q, "p_"),
            _vintages(q, "vintage", "p_vintage"),
        ),
        _rows(
            q,
            "growth_acceleration",
            yoy - (q["p_revenue"] / q["p_y_revenue"] - 1),
            _first(acceleration),
            _vintages(q, "vintage", "y_vintage", "p_vintage", "p_y_vintage"),
        ),
    ]
    bad: Cases = [(revenue.isna(), "revenue_missing"), (revenue <= 0, "revenue_not_positive")]
    cash_flow, capex = q["operating_cash_flow"], q["capital_expenditure"]
    debt = q["short_term_debt"].fillna(0) + q["long_term_debt"].fillna(0)
    no_ocf = (cash_flow.isna(), "operating_cash_flow_missing")
    no_sheet = (q["has_balance_sheet"] == 0, "balance_sheet_missing")
    of_revenue: list[tuple[str, pd.Series, Cases]] = [
        ("gross_margin", q["gross_profit"], [_missing(q, "gross_profit")]),
        ("operating_margin", q["operating_income"], [_missing(q, "operating_income")]),
        ("net_margin", q["net_income"], [_missing(q, "net_income")]),
        ("ocf_to_revenue", cash_flow, [no_ocf]),
        ("fcf_to_revenue", cash_flow - capex.abs(), [no_ocf, _missing(q, "capital_expenditure")]),
        (
            "revenue_minus_net_debt_to_revenue",
            revenue - debt + q["cash"],
            [no_sheet, _missing(q, "cash")],
        ),
    ]
    for name, line, cases in of_revenue:
        made.append(_rows(q, name, line / revenue, _first(bad + cases), own))
    return made


def _missing(q: pd.DataFrame, line: str) -> tuple["pd.Series", str]:
    return q[line].isna(), f"{line}_missing"


def _pe(q: pd.DataFrame, newest: pd.DataFrame, splits: pd.DataFrame) -> pd.DataFrame:
    columns = ["company_id", "day", "p_day", "period_end_date", "vintage", "currency"]
    columns += ["reported_date", "eps_diluted"]
    wanted = newest[["company_id", "session_date", "trading_currency", "day"]]
    parts = []
    for place in range(4):
        found = wanted.merge(q[columns], on=["company_id", "day"])
        parts.append(found.assign(place=place))
        wanted = found[["company_id", "session_date", "trading_currency", "p_day"]]
        wanted = wanted.rename(columns={"p_day": "day"}).dropna(subset=["day"])
    chain = pd.concat(parts, ignore_index=True)
    with_splits = chain.merge(splits, on="company_id")
    effective = with_splits["effective_date"]
    known = with_splits["reported_date"].fillna(with_splits["period_end_date"])
    until = with_splits["period_end_date"] + pd.Timedelta(days=120)
    with_splits["is_unsure"] = with_splits["reported_date"].isna() & (effective <= until)
    after = with_splits[(effective > known) & (effective <= with_splits["session_date"])]
    ratios = after.groupby(["company_id", "place"], as_index=False).agg(
        ratio=("value", "prod"), is_unsure=("is_unsure", "any")
    )
    chain = chain.merge(ratios, on=["company_id", "place"], how="left")
    chain["rebased"] = chain["eps_diluted"] / chain["ratio"].fillna(1)
    chain["no_eps"] = chain["eps_diluted"].isna()
    chain["is_unsure"] = chain["is_unsure"].eq(True)
    chain["is_foreign"] = chain["currency"] != chain["trading_currency"]
    sums = chain.groupby("company_id").agg(
        count=("place", "size"),
        no_eps=("no_eps", "any"),
        is_unsure=("is_unsure", "any"),
        is_foreign=("is_foreign", "any"),
        earnings=("rebased", "sum"),
    )
    labels = chain.pivot_table(index="company_id", columns="place", values="vintage")
    labels = labels.reindex(columns=range(4)).rename(columns=lambda place: f"v{place}")
    n = newest.merge(sums, on="company_id", how="left").merge(labels, on="company_id", how="left")
    reason = _first(
        [
            (n["close"].isna(), "price_missing"),
            (n["count"] < 4, "fewer_than_four_quarters"),
            (n["is_foreign"], "trading_currency_differs"),
            (n["no_eps"], "eps_missing"),
            (n["is_unsure"], "split_basis_unknown"),
            (n["earnings"] <= 0, "earnings_not_positive"),
        ]
    )
    label = _vintages(n, "v0", "v1", "v2", "v3") + "@" + _session(n["session_date"])
    return _rows(n, "pe_ratio", n["close"] / n["earnings"], reason, label)


def _momenta(newest: pd.DataFrame, bars: pd.DataFrame) -> list[pd.DataFrame]:
    made = []
    base = bars[["company_id", "session_date", "adjusted_close"]]
    base = base.rename(columns={"session_date": "base_date", "adjusted_close": "base_close"})
    for months in (1, 3, 6):
        back = newest["session_date"] - pd.DateOffset(months=months)
        dated = newest.assign(back=back.astype(base["base_date"].dtype)).sort_values("back")
        unpriced, priced = dated[dated["back"].isna()], dated[dated["back"].notna()]
        n = pd.merge_asof(priced, base, left_on="back", right_on="base_date", by="company_id")
        n = n if unpriced.empty else pd.concat([n, unpriced], ignore_index=True)
        reason = _first(
            [
                (n["close"].isna(), "price_missing"),
                (n["base_date"].isna(), "history_too_short"),
                (n["adjusted_close"].isna() | n["base_close"].isna(), "adjusted_close_missing"),
            ]
        )
        label = "@" + _session(n["session_date"]) + "/" + _session(n["base_date"])
        value = n["adjusted_close"] / n["base_close"] - 1
        made.append(_rows(n, f"momentum_{months}m", value, reason, label))
    return made
