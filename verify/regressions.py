"""Seeds that once found something: they run first, in every proof and in CI.

A seed means a schedule only as long as the simulation draws its dice in the same order. The hash of
its trace is kept with it: one that drifted is an ordinary seed, and its bug has a test of its own.
"""

import json
from datetime import UTC, datetime
from pathlib import Path

from verify.runner import Case

FILE = Path(__file__).parent / "regressions.json"


def regressions(file: Path = FILE) -> dict[Case, str]:
    """The kept cases, in the order in which they were found, and the hashes of their traces."""
    kept = json.loads(file.read_text())
    return {Case(each["flow"], each["seed"]): each["trace"] for each in kept}


def keep(case: Case, trace: str, why: str, file: Path = FILE) -> Path:
    """Add a case, or what its trace is by now; returns the file."""
    kept = json.loads(file.read_text())
    found = next((e for e in kept if (e["flow"], e["seed"]) == (case.flow, case.seed)), None)
    if found is not None:
        found["trace"] = trace
    else:
        today = datetime.now(UTC).date().isoformat()
        kept.append(
            {"flow": case.flow, "seed": case.seed, "trace": trace, "why": why, "date": today}
        )
    file.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n")
    return file
