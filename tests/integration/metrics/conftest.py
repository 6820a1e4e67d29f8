"""Companies in the database, recalculated there, beside the exact calculation in fractions."""

import contextlib
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg2
import pytest

from domain.metrics import Metric, NullReason
from domain.metrics_exact import Bar, Company, Quarter, Split, calculate
from domain.research import MetricName
from models.bulk import copy_rows
from models.database import connect_to, execute, fetch, reconnect, transaction
from usecases.research.metrics import bump_inputs, recalc

Stored = dict[tuple[date, MetricName], Metric]

_QUARTER_COLUMNS = tuple(Quarter.__dataclass_fields__)
AMOUNTS = {
    *("revenue", "gross_profit", "operating_income", "net_income", "cash", "short_term_debt"),
    *("long_term_debt", "operating_cash_flow", "capital_expenditure", "eps_diluted"),
}


def store(company: Company) -> int:
    """Insert a company or replace its inputs, as the writers do; an older vintage each is added."""
    with transaction():
        [(company_id,)] = fetch(
            "INSERT INTO company (symbol, name, exchange, currency) VALUES (%s, 'A', 'NYSE', %s)"
            " ON CONFLICT (symbol) DO UPDATE SET currency = excluded.currency RETURNING id",
            (f"S{company.id}", company.currency),
        )
        for table in ("statement", "daily_price", "corporate_action"):
            execute(f"DELETE FROM {table} WHERE company_id = %s", (company_id,))
        copy_rows(
            "statement",
            (
                *("company_id", "period_type", "is_current", "provider", "lines", "digest"),
                *("eps_basis", *_QUARTER_COLUMNS),
            ),
            _statement_rows(company_id, company.quarters),
        )
        copy_rows(
            "daily_price",
            ("company_id", "session_date", "close", "adjusted_close", "provider"),
            ((company_id, b.session_date, b.close, b.adjusted_close, "p") for b in company.bars),
        )
        copy_rows(
            "corporate_action",
            ("company_id", "kind", "effective_date", "value", "provider"),
            ((company_id, "split", s.effective_date, s.ratio, "p") for s in company.splits),
        )
        bump_inputs([company_id])
    return int(company_id)


def _statement_rows(company_id: int, quarters: Iterable[Quarter]) -> Iterable[tuple[object, ...]]:
    """The current vintages, with what must not count: older vintages, and annual statements."""
    for quarter in quarters:
        others = [("annual", True, replace(quarter, revenue=Decimal(999)))]
        for vintage in range(1, quarter.vintage):
            old = replace(quarter, vintage=vintage, revenue=Decimal(777), currency="JPY")
            others.append(("quarter", False, old))
        for kind, is_current, each in [("quarter", True, quarter), *others]:
            basis = None if each.eps_diluted is None else "reported"
            values = (getattr(each, name) for name in _QUARTER_COLUMNS)
            yield (company_id, kind, is_current, "p", "{}", "d", basis, *values)


def stored_metrics(company_id: int) -> Stored:
    """What the database holds of a company."""
    rows = fetch(
        "SELECT period_end_date, metric_name, value, null_reason, vintage FROM derived_metric"
        " WHERE company_id = %s",
        (company_id,),
    )
    return {
        (end, MetricName(name)): Metric(
            company_id, end, MetricName(name), value, reason and NullReason(reason), vintage
        )
        for end, name, value, reason, vintage in rows
    }


def exact_metrics(company: Company, company_id: int) -> Stored:
    """What fractions say."""
    metrics = calculate(replace(company, id=company_id))
    assert len({(m.period_end_date, m.name) for m in metrics}) == len(metrics)
    return {(metric.period_end_date, metric.name): metric for metric in metrics}


def recalculate(company: Company) -> Stored:
    """Store, recalculate in SQL, compare every row with the fractions; returns the rows."""
    company_id = store(company)
    with transaction():
        [done] = recalc([company_id])
    assert done.company_id == company_id
    found = stored_metrics(company_id)
    assert found == exact_metrics(company, company_id)
    return found


@pytest.fixture(scope="package")
def shared_database(postgres_url: str, template_database: str) -> Iterator[str]:
    """One database for all that only calculate: each company replaces the one before it."""
    name = f"overnight_test_{secrets.token_hex(6)}"
    with contextlib.closing(psycopg2.connect(postgres_url)) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute(f"CREATE DATABASE {name} TEMPLATE {template_database}")
        try:
            yield urlunsplit(urlsplit(postgres_url)._replace(path=f"/{name}"))
        finally:
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def calculating(shared_database: str) -> Iterator[None]:
    """The program's database points at the shared one."""
    connect_to(shared_database)
    yield
    reconnect()


@pytest.fixture
def metrics_of(calculating: None) -> Callable[[Company], Stored]:
    """metrics_of(company): its metrics, calculated in SQL and checked against the fractions."""
    return recalculate


@pytest.fixture
def store_company(database: str) -> Callable[[Company], int]:
    """store_company(company) → id: its inputs are in the database, and it is dirty."""
    return store


@pytest.fixture
def read_metrics(database: str) -> Callable[[int], Stored]:
    """read_metrics(id): what is stored."""
    return stored_metrics


@pytest.fixture
def bars() -> Callable[..., tuple[Bar, ...]]:
    """bars("2013-03-01 430.47 56.13", …): session, close, adjusted close (- for none)."""

    def read(*lines: str) -> tuple[Bar, ...]:
        made = []
        for line in lines:
            session, close, adjusted = line.split()
            adjusted_close = None if adjusted == "-" else Decimal(adjusted)
            made.append(Bar(date.fromisoformat(session), Decimal(close), adjusted_close))
        return tuple(made)

    return read


@pytest.fixture
def splits() -> Callable[..., tuple[Split, ...]]:
    """splits("2014-06-09 7", …): effective date, new shares for one old."""

    def read(*lines: str) -> tuple[Split, ...]:
        return tuple(
            Split(date.fromisoformat(day), Decimal(ratio)) for day, ratio in map(str.split, lines)
        )

    return read


@pytest.fixture
def quarter() -> Callable[..., Quarter]:
    """quarter("2012-12-29", revenue=54512, …): figures as they are written, vintage 1, in USD."""

    def make(end: str, **given: object) -> Quarter:
        lines = {
            name: Decimal(str(value))
            for name, value in given.items()
            if name in AMOUNTS and value is not None
        }
        others = {name: value for name, value in given.items() if name not in AMOUNTS}
        if isinstance(reported := others.get("reported_date"), str):
            others["reported_date"] = date.fromisoformat(reported)
        words: Any = {"vintage": 1, "currency": "USD", **others, **lines}
        return Quarter(date.fromisoformat(end), **words)

    return make


@pytest.fixture
def one(metrics_of: Callable[[Company], Stored]) -> Callable[..., str]:
    """one(company, end, name): the value in 12 places, or the reason why there is none."""

    def read(company: Company, end: str, name: MetricName) -> str:
        metric = metrics_of(company)[date.fromisoformat(end), name]
        return str(metric.null_reason) if metric.value is None else format(metric.value, "f")

    return read
