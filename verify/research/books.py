"""Rows against the truth: what is stored is what the first tier says now, with its history.

stored prices, rates, statements, documents, dates, metrics = world | fractions of the stored rows
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

from domain import metrics_exact
from verify.research.world import PRIMARY, SECONDARY, Lines, Truth, World, feeds

Query = Callable[..., list[tuple[Any, ...]]]

_STATEMENTS = """
SELECT period_end_date, vintage, is_current, provider, lines::text, digest, reported_date, revenue,
       cash, shares_outstanding, operating_cash_flow, net_income
FROM statement WHERE company_id = %s AND period_type = 'quarter' ORDER BY 1, 2
"""

_QUARTERS = """
SELECT period_end_date, vintage, currency, reported_date, revenue, gross_profit, operating_income,
       net_income, has_balance_sheet, cash, short_term_debt, long_term_debt, operating_cash_flow,
       capital_expenditure, eps_diluted
FROM statement WHERE company_id = %s AND period_type = 'quarter' AND is_current
"""

_CLEAN = """
SELECT c.id, c.symbol, c.currency, coalesce(s.inputs_revision = s.metrics_revision, true)
FROM company c LEFT JOIN research_state s ON s.company_id = c.id ORDER BY c.id
"""

#: Vintages that were there once.
Kept = dict[tuple[int, date, int], str]


class ResearchBooks:
    """What is stored, compared. `query` is the scheduler's own."""

    def __init__(self, query: Query, world: World, documents: Path) -> None:
        self._query, self._world, self._documents = query, world, documents
        self._kept: Kept = {}

    def remember(self) -> None:
        """The vintages of now: they stay, whatever comes."""
        for company, end, vintage, digest in self._query(
            "SELECT company_id, period_end_date, vintage, digest FROM statement"
        ):
            self._kept.setdefault((company, end, vintage), digest)

    def broken_midway(self) -> list[str]:
        """Metrics of companies that are up to date, vintages, and who said what."""
        return [told for company_id, truth, currency, is_clean in self._companies() for told in (
            *(self._metrics(company_id, currency) if is_clean else ()),
            *self._statements(company_id, truth))] + self._vintages()  # fmt: skip

    def broken_at_the_end(self, closed: tuple[date, date]) -> list[str]:
        """All of it, as the first tier has it; `closed`: sessions that may be the last known."""
        found = self.broken_midway() + self._rates()
        for company_id, truth, _, is_clean in self._companies():
            if not is_clean:
                found.append(f"metrics are behind their inputs: {truth.symbol}")
            found += self._prices(company_id, truth, closed)
            found += self._current(company_id, truth)
            found += self._files(company_id, truth)
            found += self._company(company_id, truth)
        return found

    def _companies(self) -> Iterator[tuple[int, Truth, str, bool]]:
        for company_id, symbol, currency, is_clean in self._query(_CLEAN):
            truth = self._world.by_symbol(symbol)
            assert truth is not None
            yield company_id, truth, currency, is_clean

    def _metrics(self, company_id: int, currency: str) -> list[str]:
        quarters = self._query(_QUARTERS, (company_id,))
        bars = self._query(
            "SELECT session_date, close, adjusted_close FROM daily_price WHERE company_id = %s",
            (company_id,),
        )
        splits = self._query(
            "SELECT effective_date, value FROM corporate_action"
            " WHERE company_id = %s AND kind = 'split'", (company_id,),
        )  # fmt: skip
        company = metrics_exact.Company(
            company_id, currency,
            tuple(metrics_exact.Quarter(*row) for row in quarters),
            tuple(metrics_exact.Bar(*row) for row in bars),
            tuple(metrics_exact.Split(*row) for row in splits),
        )  # fmt: skip
        exact = {
            (m.period_end_date, m.name.value): (m.value, m.null_reason and m.null_reason.value)
            for m in metrics_exact.calculate(company)
        }
        stored = {
            (end, name): (value, reason)
            for end, name, value, reason in self._query(
                "SELECT period_end_date, metric_name, value, null_reason FROM derived_metric"
                " WHERE company_id = %s", (company_id,),
            )
        }  # fmt: skip
        differ = sorted(key for key in exact.keys() | stored.keys()
                        if exact.get(key) != stored.get(key))  # fmt: skip
        return [f"a metric is not that of its stored inputs: {company_id} {key}"
                f" {stored.get(key)}, not {exact.get(key)}" for key in differ[:3]]  # fmt: skip

    def _vintages(self) -> list[str]:
        stored = {
            (company, end, vintage): digest
            for company, end, vintage, digest in self._query(
                "SELECT company_id, period_end_date, vintage, digest FROM statement"
            )
        }
        found = [f"a vintage is gone or changed: {key}" for key, digest in self._kept.items()
                 if stored.get(key) != digest]  # fmt: skip
        return found[:3]

    def _statements(self, company_id: int, truth: Truth) -> list[str]:
        """Each vintage is what one provider once said, and a fallback follows no first tier."""
        found = list[str]()
        before: tuple[date, str] | None = None
        expected, known = dict[date, int](), set[tuple[date, str]]()
        rows = self._query(_STATEMENTS, (company_id,))
        for end, vintage, _, provider, lines, *_ in rows:
            expected[end] = expected.get(end, 0) + 1
            if vintage != expected[end]:
                found.append(f"a vintage is missing: {truth.symbol} {end} {vintage}")
            if (end, PRIMARY) == before and provider == SECONDARY:
                found.append(f"a fallback replaced the first tier: {truth.symbol} {end}")
            before = (end, provider)
            offered = self._world.offered.get((provider, truth.symbol, end), {})
            for feed, said in _parts(lines).items():
                if said is None:
                    if (end, feed) in known:
                        found.append(f"a statement lost its {feed}: {truth.symbol} {end} {vintage}")
                    continue
                known.add((end, feed))
                if said not in offered.get(feed, ()):
                    found.append(
                        f"a statement says what its provider never said: {truth.symbol} {end}"
                        f" {vintage} {provider} {feed}"
                    )
        newest = {end: row[1] for row in rows for end in (row[0],)}
        found += [f"not the newest vintage is the current one: {truth.symbol} {row[0]}"
                  for row in rows if row[2] != (newest[row[0]] == row[1])]  # fmt: skip
        return found[:3]

    def _current(self, company_id: int, truth: Truth) -> list[str]:
        rows = {row[0]: row for row in self._query(_STATEMENTS, (company_id,)) if row[2]}
        found = list[str]()
        wanted = {quarter.ends: quarter for quarter in truth.quarters}
        if rows.keys() != wanted.keys():
            return [f"statements of {truth.symbol}: {sorted(rows)}, not {sorted(wanted)}"]
        for end, quarter in wanted.items():
            _, vintage, _, provider, lines, _, reported, *columns = rows[end]
            if provider != PRIMARY or _parts(lines) != feeds(quarter):
                found.append(f"a statement is stale: {truth.symbol} {end} {vintage} {provider}")
            now = [quarter.revenue, quarter.cash, quarter.shares, quarter.operating_cash_flow,
                   quarter.net_income]  # fmt: skip
            if columns != now or reported != quarter.reported:
                found.append(f"columns of a statement: {truth.symbol} {end} {columns}, not {now}")
        return found[:3]

    def _prices(self, company_id: int, truth: Truth, closed: tuple[date, date]) -> list[str]:
        stored = self._query(
            "SELECT session_date, close, adjusted_close, volume, provider FROM daily_price"
            " WHERE company_id = %s ORDER BY 1", (company_id,),
        )  # fmt: skip
        days = [row[0] for row in stored]
        wanted = [self._world.sessions(last) for last in closed]
        if days not in wanted:
            return [f"sessions of {truth.symbol}: {len(days)} to {days[-1:]}, not {closed}"]
        sample = self._world.sample(PRIMARY, truth, with_bars=True)
        found = list[str]()
        for (day, close, adjusted, volume, _), bar in zip(stored, sample.bars, strict=False):
            factor = Decimal(1)
            for effective, ratio in truth.splits.items():
                if day < effective:
                    factor /= ratio
            true = (bar.session, Decimal(bar.close), Decimal(bar.close) * factor, bar.volume)
            if (day, close, adjusted, volume) != true:
                found.append(f"a price is not the provider's: {truth.symbol} {day} {close}"
                             f" {adjusted}, not {true}")  # fmt: skip
        splits = self._query(
            "SELECT effective_date, value FROM corporate_action"
            " WHERE company_id = %s AND kind = 'split'", (company_id,),
        )  # fmt: skip
        if dict(splits) != truth.splits:
            found.append(f"splits of {truth.symbol}: {splits}, not {truth.splits}")
        return found[:3]

    def _rates(self) -> list[str]:
        stored = {(quote, day): rate for quote, day, rate in self._query(
            "SELECT quote, rate_date, rate FROM fx_rate WHERE base = 'EUR'")}  # fmt: skip
        first = min((day for _, day in stored), default=None)
        days = [day for day in self._world.rate_days() if first is not None and day >= first]
        wanted = {(name, day): self._world.rate(name, day)
                  for name in ("USD", "INR") for day in days}  # fmt: skip
        differ = sorted(key for key in stored.keys() | wanted.keys()
                        if stored.get(key) != wanted.get(key))  # fmt: skip
        found = [] if stored else ["no rate is stored"]
        return found + [f"a rate is not the provider's: {key} {stored.get(key)}, not"
                        f" {wanted.get(key)}" for key in differ[:3]]  # fmt: skip

    def _files(self, company_id: int, truth: Truth) -> list[str]:
        rows = self._query(
            "SELECT document_key, sha256, size_bytes, file FROM document WHERE company_id = %s",
            (company_id,),
        )
        stored = {key: (sha256, size) for key, sha256, size, _ in rows}
        wanted = {key: (hashlib.sha256(content).hexdigest(), len(content))
                  for key, content in truth.documents.items()}  # fmt: skip
        found = []
        if stored != wanted or len(rows) != len(wanted):
            found.append(f"documents of {truth.symbol}: {stored}, not {wanted}")
        for key, sha256, _, file in rows:
            place = self._documents / file
            if not place.is_file() or hashlib.sha256(place.read_bytes()).hexdigest() != sha256:
                found.append(f"a document's file is not its content: {truth.symbol} {key}")
        return found[:3]

    def _company(self, company_id: int, truth: Truth) -> list[str]:
        [(date_next, reported, shares, cap, cap_on, note)] = self._query(
            "SELECT next_earnings_date, last_report_date, shares_outstanding, market_cap,"
            " market_cap_on, market_cap_note FROM company WHERE id = %s", (company_id,),
        )  # fmt: skip
        found = []
        if date_next != truth.report_date:
            found.append(f"{truth.symbol} reports on {truth.report_date}, not {date_next}")
        if reported is not None and reported not in self._world.announced[truth.symbol]:
            found.append(f"{truth.symbol} never announced {reported}")
        [(close, day)] = self._query(
            "SELECT close, session_date FROM daily_price WHERE company_id = %s"
            " ORDER BY session_date DESC LIMIT 1", (company_id,),
        )  # fmt: skip
        newest = truth.quarters[-1].shares
        assert isinstance(newest, int)
        if (shares, cap, cap_on, note) != (newest, close * newest, day, None):
            found.append(f"market cap of {truth.symbol}: {(shares, cap, cap_on, note)}, not"
                         f" {(newest, close * newest, day, None)}")  # fmt: skip
        return found


def _parts(text: str) -> dict[str, Lines | None]:
    """A stored statement's parts, as `verify.research.world.feeds` makes them; None: not there."""
    lines = json.loads(text)
    parts: dict[str, Lines | None] = {}
    for feed in ("income_statement", "balance_sheet", "cash_flow"):
        said = lines[feed]
        parts[feed] = (
            {k: None if v is None else Decimal(v) for k, v in said.items()} if said else None
        )
    eps, reported = lines["reported_eps"], lines["reported_date"]
    said_on = None if reported is None else Decimal(date.fromisoformat(reported).toordinal())
    has_earnings = (eps, reported) != (None, None)
    parts["earnings"] = {"eps": _number(eps), "reported": said_on} if has_earnings else None
    return parts


def _number(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)
