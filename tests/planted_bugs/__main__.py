"""Measure every planted bug: `python -m tests.planted_bugs [--starts N] [--most N] [NAME …]`.

hunts from N starts each → seeds.json (for CI) and the table of docs/proof-planted-bugs.md
"""

import argparse
import json
import os
import re
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from tests.planted_bugs.planted import (
    ROOT,
    SEEDS,
    Hunted,
    Misplanted,
    PlantedBug,
    hunt,
    planted_bugs,
    recorded_seeds,
)

PAGE = ROOT / "docs" / "proof-planted-bugs.md"

#: The table is all between these two lines.
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"

#: So far apart that no two searches look at the same seeds.
STRIDE = 100_000


def main() -> int:
    """Hunt, record what was found, and say what was not."""
    parser = argparse.ArgumentParser(prog="python -m tests.planted_bugs")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--most", type=int, default=3_000)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    url = os.environ["DATABASE_URL"]
    starts = [1 + number * STRIDE for number in range(asked.starts)]
    escaped = []
    with ThreadPoolExecutor(asked.jobs) as pool:
        hunts = {
            pool.submit(hunt, bug, url, starts, asked.most): bug
            for bug in planted_bugs(asked.names)
        }
        for future in as_completed(hunts):
            bug = hunts[future]
            try:
                found = future.result()
            except (Misplanted, RuntimeError) as error:  # the others are hunted all the same
                print(line := f"{bug.name}: {error}", flush=True)
                escaped.append(line)
                continue
            print(line := _line(bug, found), flush=True)
            if any(hunted.seed is None for hunted in found):
                escaped.append(line)
            else:
                _record(bug, found)
    _write_table()
    return 1 if escaped else 0


def _line(bug: PlantedBug, found: list[Hunted]) -> str:
    tried = [hunted.tried for hunted in found]
    others = sum(sum(hunted.others.values()) for hunted in found)
    lost = sum(hunted.seed is None for hunted in found)
    verdict = f"NOT CAUGHT from {lost} of {len(found)} starts" if lost else "caught"
    said = next((hunted.said for hunted in found if hunted.said), None)
    return f"{bug.name}: {verdict}, {tried} seeds, {others} other violations on the way; {said}"


def _record(bug: PlantedBug, found: list[Hunted]) -> None:
    seeds = recorded_seeds()
    first = found[0]
    seeds[bug.name] = {
        "first": first.seed,
        "tried": [hunted.tried for hunted in found],
        "said": _rule(str(first.said)),
    }
    SEEDS.write_text(json.dumps(dict(sorted(seeds.items())), indent=1) + "\n")


def _rule(violation: str) -> str:
    """The rule that spoke, without the rows that broke it."""
    said = violation.split(":")[0]
    said = re.sub(r" 0x\w+", " a holder", said)
    return re.sub(r"^(transfer|burn) of a holder$", r"\1: not what is owed", said)


def _write_table() -> None:
    seeds = recorded_seeds()
    rows = ["| bug | rule it breaks | flow | what spoke | first seed | median seeds |",
            "|---|---|---|---|---:|---:|"]  # fmt: skip
    for bug in planted_bugs():
        found: dict[str, Any] | None = seeds.get(bug.name)
        if found is not None:
            median = round(statistics.median(found["tried"]))
            rows.append(
                f"| {bug.name} | {bug.header['Rule']} | {bug.header['Flow']} | {found['said']} |"
                f" {found['first']:,} | {median:,} |"
            )
    text = PAGE.read_text()
    head, tail = text.split(BEGIN)[0], text.split(END)[1]
    PAGE.write_text(f"{head}{BEGIN}\n" + "\n".join(rows) + f"\n{END}{tail}")


if __name__ == "__main__":
    sys.exit(main())
