"""A night of research over 5,000 generated companies whose providers take 50 ms to answer.

    golden copy → first night | a session later → seconds per job, calls, × floor → bench/results

The floor of a job is calls × latency / concurrency: what the providers' latency alone takes.
`cpu_s` is what this process itself used. Each turn has a database of its own and one process: the
first night knows nothing; the later one lacks every company's newest session, and a twentieth of
the companies are due for statements.
"""

import argparse
import logging
import shutil
import tempfile
import time
from functools import partial
from pathlib import Path

import structlog

from actors import market  # noqa: F401 - binds the actors
from bench.rounds import Figures, our_database, parser, play
from domain.research import ResearchJob
from jobs.runner import run_due
from mocks.market import mock_market_ports
from mocks.market.generate import AS_OF, generate
from models.database import execute, fetch, transaction
from providers.ports import use_market_ports
from usecases.research.policy import ResearchPolicy, use_research_policy
from usecases.research.runs import start_night

#: Two hours after New York's close of the copy's last day, and running on from there.
_CLOCK = """
CREATE OR REPLACE FUNCTION overnight_now() RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT timestamptz '{day} 23:00+00' + (statement_timestamp() - timestamptz '{start}') $$
"""

_COMPANIES = """
INSERT INTO company (symbol, name, exchange, currency, cik)
SELECT symbol, symbol, 'NYSE', 'USD', '1' FROM unnest(%s::text[]) AS symbol
"""

_SECONDS = """
SELECT job, extract(epoch FROM finished_at - started_at), outcome, reason FROM job_run
WHERE nightly_id = %s ORDER BY position
"""


def turn(folder: Path, given: argparse.Namespace, symbols: list[str], later: bool) -> Figures:
    """One night; a later one after a first one without latency, which does not count."""
    with our_database(given.postgres):
        [(start,)] = fetch("SELECT statement_timestamp()")
        execute(_CLOCK.format(day=AS_OF, start=start.isoformat()))
        execute(_COMPANIES, (symbols,))
        documents = Path(tempfile.mkdtemp(prefix="overnight-documents-"))
        use_research_policy(ResearchPolicy(documents, concurrency=given.concurrency))
        try:
            if later:
                _night(folder, 0)
                execute("DELETE FROM daily_price WHERE session_date = %s", (AS_OF,))
                execute("UPDATE research_check SET checked_at = checked_at - interval '7 days'"
                        " WHERE job = 'financials_refresh' AND company_id %% 20 = 0")  # fmt: skip
                execute("VACUUM ANALYZE")
            return _figures(_night(folder, given.latency_ms), given)
        finally:
            shutil.rmtree(documents)


def _night(folder: Path, latency_ms: int) -> tuple[str, float, float]:
    use_market_ports(mock_market_ports(folder, delay_ms=latency_ms))
    execute("TRUNCATE provider_budget")
    began, cpu = time.perf_counter(), time.process_time()
    with transaction():
        night = start_night(tuple(ResearchJob), trigger="manual")
    run_due()
    return night.nightly_id, time.perf_counter() - began, time.process_time() - cpu


def _figures(night: tuple[str, float, float], given: argparse.Namespace) -> Figures:
    nightly_id, seconds, cpu_s = night
    [(calls,)] = fetch("SELECT sum(day_used) FROM provider_budget")
    floor = float(calls) * given.latency_ms / 1_000 / given.concurrency
    found = {
        "seconds": seconds,
        "calls": float(calls),
        "floor_s": floor,
        "x_floor": seconds / floor,
        "cpu_s": cpu_s,
    }
    for job, took, outcome, reason in fetch(_SECONDS, (nightly_id,)):
        assert outcome == "completed", f"{job}: {outcome}: {reason}"
        found[f"{job}_s"] = float(took)
    return found


def main() -> None:
    """Play the rounds."""
    made = parser(__doc__, rounds=1)
    made.add_argument("--companies", type=int, default=5_000)
    made.add_argument("--latency-ms", type=int, default=50)
    made.add_argument("--concurrency", type=int, default=8)
    given = made.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    folder = Path(tempfile.mkdtemp(prefix="overnight-golden-"))
    try:
        symbols = generate(folder, given.companies)
        first = partial(turn, folder, given, symbols)
        play("nightly", given, {
            "first night": partial(first, later=False),
            "a session later": partial(first, later=True),
        })  # fmt: skip
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
