"""Two-phase payouts beside PGQueuer: burn, final, pay, final, told; on one kind of mock chain.

    rounds, interleaved: one job per leg | paged by hand | ours → medians → bench/results

From the trigger to the last notification, planning included. All sides commit the signed bytes
before they broadcast them, and pay only whose burn is final; the chain's ledger is checked after.
"""

import os
import subprocess
import sys
import time

from bench.cpu_meter import CpuMeter
from bench.night import (
    KEY,
    Bond,
    assert_paid_once,
    bond_of,
    chain_of,
    pay_without_keeping,
)
from bench.rounds import (
    PEER_PYTHON,
    ROOT,
    Figures,
    bare_database,
    our_database,
    our_queues,
    parser,
    play,
    wait_until,
)
from mocks.chain import MockChain, MockSigner
from mocks.registry import MockRegistry
from models.database import fetch
from providers.ports import PayoutPolicy, Ports, use_policy, use_ports
from usecases.bonds import import_bond
from usecases.payouts.trigger import trigger_maturity

PAGE_LEGS, LEGS_PER_TRANSACTION = 500, 100
ENVIRONMENT_ID = "bench"


def ours(postgres: str, amqp_url: str, bond: Bond, processes: int) -> Figures:
    """`overnight worker` processes, four threads each, as they are in production."""
    with (
        our_database(postgres) as url,
        chain_of(url, bond) as chain_url,
        our_queues(amqp_url) as prefix,
    ):
        chain, registry, signer = MockChain(chain_url), MockRegistry(chain_url), MockSigner(KEY)
        use_ports(Ports(chain, registry, signer))
        use_policy(PayoutPolicy(ENVIRONMENT_ID))
        import_bond(bond.text)
        env = {
            "DATABASE_URL": url,
            "MOCK_CHAIN_URL": chain_url,
            "AMQP_URL": amqp_url,
            "QUEUE_PREFIX": prefix,
            "ENVIRONMENT_ID": ENVIRONMENT_ID,
            "WALLET_KEY": KEY,
            "PAYOUT_PAGE_LEGS": str(PAGE_LEGS),
            "LEGS_PER_TRANSACTION": str(LEGS_PER_TRANSACTION),
            "MAX_UNSETTLED_NONCES": "1000",
            "LOG_LEVEL": "WARNING",
        }
        command = [sys.executable, "-m", "cli.main", "worker"]
        workers = [
            subprocess.Popen(command, env={**os.environ, **env}, cwd=ROOT) for _ in range(processes)
        ]
        try:
            wait_until(lambda: fetch("SELECT count(*) FROM worker") == [(processes,)])
            time.sleep(1)  # both have their consumers: a heartbeat comes before them
            meter = CpuMeter([worker.pid for worker in workers], [url, chain_url])
            start = time.perf_counter()
            trigger_maturity(bond.file.terms.id, "bench")
            told = len(bond.file.investors)
            wait_until(lambda: fetch("SELECT count(*) FROM notification") == [(told,)], poll_s=0.05)
            seconds, cpu_s = time.perf_counter() - start, meter.stop()
            wait_until(lambda: fetch("SELECT state FROM payout_run") == [("finished",)])
        finally:
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.wait()
        assert fetch("SELECT count(*) FROM payout_leg WHERE state = 'paid'") == [(told,)]
        assert_paid_once(chain_url, bond)
        chain.close()
        registry.close()
    return _figures(bond, seconds, cpu_s)


def peer(postgres: str, bond: Bond, form: str, processes: int) -> Figures:
    """PGQueuer in its own environment: `legs` or `pages` (bench/peer_payouts.py)."""
    with bare_database(postgres) as url, chain_of(url, bond) as chain_url:
        command = [str(PEER_PYTHON), "-m", "bench.peer_payouts", form, url, chain_url]
        sizes = [str(PAGE_LEGS), str(LEGS_PER_TRANSACTION), str(processes)]
        with subprocess.Popen(
            [*command, *sizes, KEY], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        ) as process:  # fmt: skip
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(bond.text)
            process.stdin.close()
            assert process.stdout.readline() == "ready\n"
            meter = CpuMeter([process.pid], [url, chain_url])
            seconds = float(process.stdout.readline())
            cpu_s = meter.stop()
        assert_paid_once(chain_url, bond)
    return _figures(bond, seconds, cpu_s)


def chain_alone(postgres: str, bond: Bond, legs_per_transaction: int) -> Figures:
    """Nobody's ceiling but the mock chain's: sign, send, mine; nothing is kept anywhere else."""
    with bare_database(postgres) as url, chain_of(url, bond) as chain_url:
        meter = CpuMeter([os.getpid()], [url, chain_url])
        start = time.perf_counter()
        pay_without_keeping(chain_url, bond, legs_per_transaction)
        seconds, cpu_s = time.perf_counter() - start, meter.stop()
        assert_paid_once(chain_url, bond)
    return _figures(bond, seconds, cpu_s)


def _figures(bond: Bond, seconds: float, cpu_s: float) -> Figures:
    legs = len(bond.file.investors)
    return {"payouts": legs / seconds, "seconds": seconds, "cpu_ms_each": cpu_s / legs * 1_000}


def main() -> None:
    """Play the rounds; one job per leg gets fewer legs, for its rate does not depend on them."""
    made = parser(__doc__)
    made.add_argument("--holders", type=int, default=20_000)
    made.add_argument("--holders-per-leg-jobs", type=int, default=2_000)
    made.add_argument("--only", default="", help="contestants whose name has this")
    made.add_argument("--base", default="pgqueuer, paged by hand")
    given = made.parse_args()
    bond, small = bond_of(given.holders), bond_of(given.holders_per_leg_jobs)
    contestants = {
        "the chain alone, a leg each": lambda: chain_alone(given.postgres, small, 1),
        "the chain alone, 100 legs each": lambda: chain_alone(given.postgres, bond, 100),
        "pgqueuer, a job per leg": lambda: peer(given.postgres, small, "legs", 2),
        "pgqueuer, paged by hand": lambda: peer(given.postgres, bond, "pages", 2),
        "overnight 2x4": lambda: ours(given.postgres, given.amqp, bond, 2),
    }
    chosen = {name: turn for name, turn in contestants.items() if given.only in name}
    play("payouts", given, chosen, base=given.base if given.base in chosen else None)


if __name__ == "__main__":
    main()
