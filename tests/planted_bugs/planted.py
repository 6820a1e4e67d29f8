"""Planted bugs: patches that `overnight verify` must see, each for the reason in its header.

    *.patch → a copy of the tree + the patch → hunt.py in a process of its own → Hunted

The worktree is never patched; the copy is gone afterwards.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent.parent

#: Where the catching seeds of the last measurement are kept: `python -m tests.planted_bugs`.
SEEDS = FOLDER / "seeds.json"

#: What a schedule runs. Tests, docs and the rest stay where they are.
PACKAGES = ("actors", "cli", "domain", "jobs", "mocks", "models", "providers", "schedules",
            "servers", "usecases", "verify")  # fmt: skip

_HEADER = re.compile(r"^(Rule|Harm|Flow|Says|Note): (.+(?:\n {2,}.+)*)", re.MULTILINE)


class Misplanted(Exception):
    """The patch does not apply any more, or its header is not complete."""


@dataclass(frozen=True)
class PlantedBug:
    """One patch and what its header says."""

    path: Path

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.stem

    @cached_property
    def header(self) -> dict[str, str]:
        """Rule, Harm, Flow, Says (a pattern of the violation's text), and perhaps a Note."""
        text = self.path.read_text().split("\n--- ", 1)[0]
        found = {key: " ".join(value.split()) for key, value in _HEADER.findall(text)}
        if missing := {"Rule", "Harm", "Flow", "Says"} - found.keys():
            raise Misplanted(f"{self.path.name}: its header lacks {', '.join(sorted(missing))}")
        return found


@dataclass(frozen=True)
class Hunted:
    """What a search from one seed found; `seed` is None when nothing was said in time."""

    seed: int | None
    tried: int
    said: str | None
    others: dict[str, int]


def planted_bugs(names: Sequence[str] = ()) -> list[PlantedBug]:
    """All of them, or those named, in the order of their names."""
    bugs = [PlantedBug(path) for path in sorted(FOLDER.glob("*.patch"))]
    if unknown := set(names) - {bug.name for bug in bugs}:
        raise Misplanted(f"no such patch: {', '.join(sorted(unknown))}")
    return [bug for bug in bugs if not names or bug.name in names]


def recorded_seeds() -> dict[str, dict[str, Any]]:
    """By bug: what the last measurement found."""
    found: dict[str, dict[str, Any]] = json.loads(SEEDS.read_text()) if SEEDS.exists() else {}
    return found


def first_seed(bug: PlantedBug) -> int:
    """Where CI begins: at the seed that caught it, and on from there when schedules changed."""
    return int(recorded_seeds().get(bug.name, {}).get("first", 1))


@contextmanager
def patched_copy(bug: PlantedBug) -> Iterator[Path]:
    """The tree with the bug in it, in a temporary folder. Raises Misplanted."""
    with TemporaryDirectory(prefix="overnight-planted-") as folder:
        copy = Path(folder)
        for package in PACKAGES:
            shutil.copytree(ROOT / package, copy / package)  # with what is compiled already
        shutil.copy(ROOT / "settings.py", copy)
        command = ["git", "apply", str(bug.path)]
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True)
        if done.returncode:
            raise Misplanted(f"{bug.path.name} no longer applies: {done.stderr.strip()}")
        yield copy


def hunt(bug: PlantedBug, url: str, starts: Sequence[int], most: int) -> list[Hunted]:
    """Look for the bug from each of the seeds, at most `most` schedules each. Raises Misplanted."""
    asked = {
        "flow": bug.header["Flow"], "words": bug.header["Says"], "starts": list(starts),
        "most": most,
    }  # fmt: skip
    with patched_copy(bug) as copy:
        done = subprocess.run(
            [sys.executable, str(FOLDER / "hunt.py"), json.dumps(asked)],
            cwd=copy,
            env={**os.environ, "PYTHONPATH": str(copy), "DATABASE_URL": url},
            capture_output=True,
            text=True,
        )
    found = [Hunted(**json.loads(line)) for line in done.stdout.splitlines()]
    if done.returncode or len(found) != len(starts):
        raise RuntimeError(f"{bug.name}: the simulation failed: {done.stderr[-2000:]}")
    return found
