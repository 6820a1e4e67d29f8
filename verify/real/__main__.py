"""`python -m verify.real`: run a real lane, print what held, exit 1 if something did not."""

import argparse
import json
import sys
from pathlib import Path

from servers.errors import ServerError
from verify.real import RealOptions, run_real_lane

INTERRUPTED = 130


def main() -> int:
    """Parse, run, print; returns the exit code."""
    default = RealOptions()
    parser = argparse.ArgumentParser(prog="python -m verify.real", description=__doc__)
    add = parser.add_argument
    add("--kills", type=int, default=default.kills, help="SIGKILLs of workers")
    add("--broker-kills", type=int, default=default.broker_kills)
    add("--postgres-stops", type=int, default=default.postgres_stops)
    add("--seed", type=int, default=default.seed, help="of the plan, the bonds, the chain's faults")
    add("--pace", type=float, default=default.pace, help="scales how long faults last")
    add("--workers", type=int, default=default.workers)
    add("--holders", type=int, default=default.holders, help="of each bond")
    add("--waves", type=int, help="at most so many bonds (default: as many as fit)")
    add("--folder", type=Path, help="keep everything here (default: temporary)")
    add("--json", action="store_true", help="print the report as JSON")
    add("--out", type=Path, help="write the report here too: OUT.json and OUT.txt")
    given = vars(parser.parse_args())
    as_json, out = given.pop("json"), given.pop("out")
    try:
        report = run_real_lane(RealOptions(**given), lambda text: print(text, file=sys.stderr))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except ServerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    text = report.as_text()
    machine = json.dumps(report.as_json(), indent=1)
    if out is not None:
        out.with_suffix(".json").write_text(machine + "\n")
        out.with_suffix(".txt").write_text(text + "\n")
    print(machine if as_json else text)
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
