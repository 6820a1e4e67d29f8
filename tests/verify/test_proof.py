"""The proof in CI: all regressions, then as many seeds as its minutes allow."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from verify.flow import flows
from verify.regressions import keep, regressions
from verify.runner import Case, cases, run

if TYPE_CHECKING:
    from pathlib import Path

#: How long CI looks, in all flows together; 20 on a laptop, where `overnight verify` is at hand.
BUDGET_S = float(os.environ.get("VERIFY_SECONDS", "300" if os.environ.get("CI") else "20"))

#: It ends by this time (seconds since 1970), but never before a minute is over: a suite that is cut
#: off at its limit has proven nothing.
UNTIL = float(os.environ.get("VERIFY_UNTIL", "inf"))
AT_LEAST_S = 60.0

FIRST_SEED = 1


def test_nobody_is_paid_twice_and_nobody_is_forgotten(
    postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = regressions()
    todo = [*kept, *cases(None, FIRST_SEED, 100_000)]
    budget_s = min(BUDGET_S, max(AT_LEAST_S, UNTIL - time.time()))
    report = run(postgres_url, todo, seconds=budget_s, traces=kept)
    with capsys.disabled():
        print(
            f"\nverify: {report.schedules:,} schedules from seed {FIRST_SEED} in"
            f" {report.seconds:.0f} s {dict(report.flows)}, {report.crashes:,} crashes,"
            f" {sum(report.faults.values()):,} faults of {len(report.faults)} kinds;"
            f" {len(kept)} regressions, {len(report.drifted)} drifted"
        )
    assert report.broken == []
    assert [(found.replay, found.what) for found in report.violations] == []
    assert report.schedules > len(kept)
    assert report.crashes


def test_every_regression_names_a_flow() -> None:
    assert {case.flow for case in regressions()} <= set(flows())


def test_a_failing_seed_is_kept_once(tmp_path: Path) -> None:
    file = tmp_path / "regressions.json"
    file.write_text("[]")
    keep(Case("maturity", 7), "old", "a payment was lost", file)
    keep(Case("maturity", 7), "new", "again", file)
    keep(Case("queue", 7), "other", "a job was lost", file)
    assert regressions(file) == {Case("maturity", 7): "new", Case("queue", 7): "other"}
    assert "a payment was lost" in file.read_text()
