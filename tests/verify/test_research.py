"""The proof of the research nights can see: what is wrong in a row, one of its rules says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from domain.budgets import Budget
from mocks.market.folder import MOCK_KEY
from verify.flows.research import Research
from verify.research.reservations import broken_budgets
from verify.research.rules import night_of
from verify.schedule import Schedule

if TYPE_CHECKING:
    from verify.lab import Lab

SEED = 3


@pytest.mark.parametrize(
    ("tamper", "seen"),
    [
        ("DELETE FROM daily_price WHERE session_date = (SELECT max(session_date) FROM daily_price)",
         "sessions of SIM"),
        ("UPDATE daily_price SET volume = volume + 1", "a price is not the provider's"),
        ("UPDATE fx_rate SET rate = rate + 1", "a rate is not the provider's"),
        ("UPDATE statement SET provider = 'mock-secondary'",
         "a statement says what its provider never said"),
        ("UPDATE statement SET revenue = revenue + 1", "columns of a statement"),
        ("UPDATE statement SET is_current = false", "not the newest vintage is the current one"),
        ("UPDATE statement SET vintage = vintage + 10", "a vintage is missing"),
        ("DELETE FROM derived_metric WHERE metric_name = 'pe_ratio'",
         "a metric is not that of its stored inputs"),
        ("UPDATE research_state SET inputs_revision = inputs_revision + 1",
         "metrics are behind their inputs"),
        ("INSERT INTO document (id, company_id, kind, document_key, title, source, provider,"
         " sha256, size_bytes, file) SELECT gen_random_uuid(), min(id), 'filing', 'x', 'x', 'x',"
         " 'x', repeat('0', 64), 1, 'x' FROM company", "documents of SIM"),
        ("UPDATE company SET next_earnings_date = NULL", "reports on"),
        ("UPDATE company SET market_cap = market_cap + 1", "market cap of SIM"),
        ("UPDATE job_run SET outcome = 'partial', reason = 'because'",
         "a run's outcome is not its items'"),
        ("UPDATE job_run_item SET status = 'skipped' WHERE status = 'updated'",
         "a run's counts are not its items'"),
        ("UPDATE research_check SET checked_at = checked_at",
         "a check is not of an item's transaction"),
        ("DELETE FROM job_run WHERE job = 'fx_refresh'", "a night lacks some of its jobs"),
        ("UPDATE schedule_slot SET job_id = gen_random_uuid() WHERE job_id IS NOT NULL",
         "a slot was opened without its job"),
        ("UPDATE provider_budget SET day_used = day_used - 1", "a reservation was given back"),
        ("DELETE FROM verify_reservation", "a call without a reservation"),
        (f"INSERT INTO alert (service, subject, message) VALUES ('a', 'b', 'apikey={MOCK_KEY}')",
         "the provider's key is in a row of alert"),
    ],
)  # fmt: skip
def test_a_tampered_row_is_seen(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, tamper: str, seen: str
) -> None:
    check = Research.check

    def tampered(flow: Research) -> list[str]:
        lab.execute(tamper)
        if "verify_reservation" in tamper:  # it is looked at in a call
            flow.script.is_quiet = True
            flow.script.meet("mock-primary", "OVERVIEW", None)
        return check(flow)

    monkeypatch.setattr(Research, "check", tampered)
    found = Schedule(lab, "research", SEED).run().violations
    assert any(seen in violation for violation in found), found


def test_a_budget_is_counted_by_its_windows() -> None:
    """The third request of a minute that allows two; a clock that goes back begins no day again."""
    noon = datetime(2027, 6, 14, 12, 0, tzinfo=UTC)
    midnight = datetime(2027, 6, 14, tzinfo=UTC)
    rows = [("a", noon + timedelta(seconds=s), midnight, n) for n, s in enumerate((0, 59, 61), 1)]

    def query(sql: str) -> list[tuple[object, ...]]:
        return list(rows)

    assert broken_budgets(query, {"a": Budget(per_minute=2)}) == []
    assert "a budget was exceeded" in broken_budgets(query, {"a": Budget(per_minute=1)})[0]
    assert "3 of 2 a day" in broken_budgets(query, {"a": Budget(per_day=2)})[0]
    rows[2] = ("a", noon - timedelta(days=1), midnight, 3)
    assert "3 of 2 a day" in broken_budgets(query, {"a": Budget(per_day=2)})[0]


@pytest.mark.parametrize(
    ("now", "begins"),
    [
        (datetime(2027, 6, 14, 20, 29, tzinfo=UTC), datetime(2027, 6, 14, 20, 30, tzinfo=UTC)),
        (datetime(2027, 6, 14, 20, 30, tzinfo=UTC), datetime(2027, 6, 15, 20, 30, tzinfo=UTC)),
        (datetime(2027, 12, 31, 23, 0, tzinfo=UTC), datetime(2028, 1, 1, 20, 30, tzinfo=UTC)),
    ],
)
def test_a_night_begins_at_two_in_kolkata(now: datetime, begins: datetime) -> None:
    assert night_of(now) == begins
