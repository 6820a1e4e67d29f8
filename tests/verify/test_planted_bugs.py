"""The proof can see: every planted bug is caught, for the reason that its header names."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.planted_bugs.planted import (
    Hunted,
    Misplanted,
    PlantedBug,
    first_seed,
    hunt,
    patched_copy,
    planted_bugs,
    recorded_seeds,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Issue 4 asks for 25.
AT_LEAST = 25

#: Schedules after which a bug is not caught.
MOST = 3_000

Hunts = dict[str, "Future[list[Hunted]]"]


def measured_bugs() -> list[PlantedBug]:
    """Those that `python -m tests.planted_bugs` has seen caught; docs/proof.md names the others."""
    return planted_bugs(sorted(recorded_seeds()))


@pytest.fixture(scope="module")
def hunts(postgres_url: str, request: pytest.FixtureRequest) -> Iterator[Hunts]:
    """A hunt for each bug that was asked for, as many at once as there are cores."""
    asked = {item.callspec.id for item in request.session.items if hasattr(item, "callspec")}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {
            bug.name: pool.submit(hunt, bug, postgres_url, [first_seed(bug)], MOST)
            for bug in measured_bugs()
            if bug.name in asked
        }


@pytest.mark.parametrize("bug", measured_bugs(), ids=lambda bug: bug.name)
def test_a_planted_bug_is_caught(bug: PlantedBug, hunts: Hunts) -> None:
    [found] = hunts[bug.name].result()
    assert found.seed is not None, (
        f"{bug.header['Rule']} is broken, and nobody says so: {found.others}"
    )


def test_there_are_enough_and_no_seed_is_of_a_bug_that_is_gone() -> None:
    names = {bug.name for bug in planted_bugs()}
    assert len(names) >= AT_LEAST
    assert recorded_seeds().keys() <= names


def test_a_patch_that_no_longer_applies_says_so(tmp_path: Path) -> None:
    path = tmp_path / "stale.patch"
    path.write_text(
        "Rule: r\nHarm: h\nFlow: queue\nSays: s\n\n"
        "--- a/jobs/claim.py\n+++ b/jobs/claim.py\n@@ -1,1 +1,1 @@\n-what was never there\n+x\n"
    )
    with pytest.raises(Misplanted, match="no longer applies"), patched_copy(PlantedBug(path)):
        pass


def test_a_header_that_is_not_complete_says_what_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "bare.patch"
    path.write_text("Rule: r\nFlow: queue\n\n--- a/x\n+++ b/x\n")
    with pytest.raises(Misplanted, match="lacks Harm, Says"):
        _ = PlantedBug(path).header
