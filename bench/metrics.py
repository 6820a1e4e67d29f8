"""All thirteen metrics of 10,000 companies beside polars and pandas, on the same tables.

    generated once → rounds: overnight | polars | pandas → rows/s, seconds, MiB → bench/results

A turn is three runs by a process of its own: `full` (every company, from nothing), `unchanged`
(every company again, though no input changed: it must write no row) and `increment` (one company in
twenty has a new close, one in a hundred a restated quarter). Starting the process counts for
nobody; CPU seconds are those of the process and of its backend. What the peers store is compared
with what we stored: the same rows, reasons and vintages, and values but for what floating point
loses.
"""

import argparse
import json
import subprocess
from functools import partial

from bench.metrics_data import generate
from bench.rounds import PEER_PYTHON, ROOT, Figures, our_database, parser, play, python
from models.database import execute, fetch, transaction
from usecases.research.metrics import BATCH_COMPANIES

OURS, PEERS = "overnight", ("polars", "pandas")

_DIFFERENCES = """
SELECT count(*) FROM expected e FULL JOIN derived_metric m
    USING (company_id, period_end_date, metric_name)
WHERE (e.vintage, e.null_reason) IS DISTINCT FROM (m.vintage, m.null_reason)
   OR abs(e.value - m.value) > 1e-9 * greatest(1, abs(e.value))
"""

#: Done with 1, and undone with -1: every turn finds the same inputs.
_CHANGES = (
    "UPDATE daily_price SET close = close + 0.01 * %(sign)s,"
    " adjusted_close = adjusted_close + 0.01 * %(sign)s"
    " WHERE session_date = DATE '2025-12-31' AND company_id %% 20 = 0",
    "UPDATE statement SET revenue = revenue + 1000 * %(sign)s WHERE company_id %% 100 = 0 AND"
    " period_end_date = (SELECT max(period_end_date) - 182 FROM statement)",
    "UPDATE research_state SET inputs_revision = inputs_revision + 1 WHERE company_id %% 20 = 0",
)


def turn(url: str, contestant: str, batch_companies: int) -> Figures:
    """Full, unchanged, increment; checked."""
    command = python("bench.metrics_worker", url, batch_companies)
    if contestant != OURS:
        command = [str(PEER_PYTHON), str(ROOT / "bench" / "peer_frames.py"), contestant, url]
    execute("TRUNCATE derived_metric")
    _all_dirty()
    full = _run(command)
    if contestant == OURS:
        execute("DROP TABLE IF EXISTS expected")
        execute("CREATE TABLE expected AS SELECT * FROM derived_metric")
    else:
        assert fetch(_DIFFERENCES) == [(0,)], f"{contestant} stored something else"
    execute("VACUUM ANALYZE derived_metric")
    _all_dirty()
    unchanged = _run(command)
    assert unchanged["rows"] == 0
    _change(1)
    increment = _run(command)
    _change(-1)
    assert increment["rows"] > 0
    [(stored,)] = fetch("SELECT count(*) FROM derived_metric")
    assert full["rows"] == stored
    cpu = {"full CPU s": full["cpu_s"]} if "cpu_s" in full else {}
    return {
        "full rows/s": stored / full["seconds"],
        "unchanged rows/s": stored / unchanged["seconds"],
        "full s": full["seconds"],
        **cpu,
        "increment s": increment["seconds"],
        "peak MiB": full["peak_mib"],
    }


def _change(sign: int) -> None:
    with transaction():
        for change in _CHANGES:
            execute(change, {"sign": sign})


def _all_dirty() -> None:
    execute("UPDATE research_state SET metrics_revision = 0")
    execute("VACUUM research_state")


def _run(command: list[str]) -> Figures:
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    answer: Figures = json.loads(done.stdout)
    return answer


def arguments() -> argparse.Namespace:
    """What `make bench` may be told."""
    made = parser(__doc__)
    made.add_argument("--companies", type=int, default=10_000)
    made.add_argument("--quarters", type=int, default=20)
    made.add_argument("--sessions", type=int, default=260)
    made.add_argument("--batch", type=int, nargs="+", default=[BATCH_COMPANIES])
    return made.parse_args()


def main() -> None:
    """Generate, play, and say how the figures stand beside what was promised."""
    given = arguments()
    with our_database(given.postgres) as url:
        generate(given.companies, given.quarters, given.sessions)
        names = {f"{OURS} {batch}": (OURS, batch) for batch in given.batch}
        names |= {peer: (peer, 0) for peer in PEERS}
        contestants = {name: partial(turn, url, *what) for name, what in names.items()}
        medians = play("metrics", given, contestants, base="polars")
    best = medians[f"{OURS} {given.batch[0]}"]
    for peer in PEERS:
        full = best["full rows/s"] / medians[peer]["full rows/s"]
        increment = medians[peer]["full s"] / best["increment s"]
        print(f"full: {full:.2f} x {peer}'s rate; the increment is {increment:.1f} x as quick")


if __name__ == "__main__":
    main()
