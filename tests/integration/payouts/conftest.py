"""A night of payouts in one thread: real PostgreSQL, the mock chain, every loop turned by hand.

night.bond(...) → night.trigger() → night.turn() | night.until(run) → night.check_paid_once(run)
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import psycopg2
import pytest

import actors.maturity
import actors.notifications  # noqa: F401 - binds the actors
from domain.ids import new_id
from jobs.runner import run_due, run_job
from mocks.chain import MockChain, MockSigner, address_of
from mocks.registry import MockRegistry
from models.database import connect_to, execute, fetch, reconnect, transaction
from providers.ports import PayoutPolicy, Ports, use_policy, use_ports
from usecases.payouts.accounting import accounting
from usecases.payouts.adoption import Adoption, adopt_wallet
from usecases.payouts.settlement import settle_all
from usecases.payouts.sweep import sweep_all
from usecases.payouts.trigger import trigger_maturity

UNIT = 10**6
CONTRACT = "bond-2026"
FACE = 100


class Crash(BaseException):
    """The process is gone: nothing tidies up."""


class Fragile:
    """A port that can end the process before or after a call of a method."""

    def __init__(self, port: Any) -> None:
        self._port = port
        self.crash_before: str | None = None
        self.crash_after: str | None = None
        self.before: dict[str, Callable[[], object]] = {}  # once, before the next call
        self.chaos: Callable[[], bool] = lambda: False  # drawn twice per call

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)
        if not callable(method):
            return method

        def call(*args: Any, **kwargs: Any) -> Any:
            if self.crash_before == name or self.chaos():
                self.crash_before = None
                raise Crash(f"before {name}")
            if name in self.before:
                self.before.pop(name)()
            result = method(*args, **kwargs)
            if self.crash_after == name or self.chaos():
                self.crash_after = None
                raise Crash(f"after {name}")
            return result

        return call


class Instead:
    """A port with some methods replaced."""

    def __init__(self, port: Any, methods: dict[str, Any]) -> None:
        self._port, self._methods = port, methods

    def __getattr__(self, name: str) -> Any:
        return self._methods.get(name) or getattr(self._port, name)


class Night:
    """One database, one chain, one wallet."""

    crash_type = Crash

    def __init__(self, database_url: str, chain: MockChain, chain_url: str) -> None:
        self.database_url, self.chain, self.chain_url = database_url, chain, chain_url
        self.real_signer = MockSigner("night-wallet")
        self.node, self.signer = Fragile(chain), Fragile(self.real_signer)
        self.registry = Fragile(MockRegistry(chain_url))
        use_ports(Ports(self.node, self.registry, self.signer))
        self.policy()
        self.seconds, self.crashes = 0.0, 0

    def policy(self, **changes: Any) -> None:
        """Small pages and transactions, so that few holders meet every seam."""
        small: dict[str, Any] = {
            "environment_id": "test", "page_legs": 4, "legs_per_transaction": 2,
            "fee_cap_units": 100,
        }  # fmt: skip
        use_policy(PayoutPolicy(**small | changes))

    def see(self, port: str | None = None, **methods: Any) -> None:
        """Look at the world through a port with other methods; without arguments, as it is."""
        real: dict[str, Any] = {
            "chain": self.node, "registry": self.registry, "signer": self.real_signer,
        }  # fmt: skip
        if port is not None:
            real[port] = Instead(self.chain if port == "chain" else real[port], methods)
        use_ports(Ports(**real))

    def bond(
        self,
        holders: int = 3,
        *,
        bond_id: str = "bond",
        matures: date = date(2020, 1, 1),
        positions: dict[str, list[tuple[int, int]]] | None = None,
        face: str = str(FACE),
        decimals: int = 6,
        fund: bool = True,
    ) -> list[str]:
        """A matured bond in the database and on chain, everybody verified; returns addresses."""
        if positions is None:
            positions = {
                address_of(f"{bond_id}-{n}"): [(10_000 + n, n % 50 + 1), (9_000, 2)]
                for n in range(holders)
            }
        contract = f"{CONTRACT}-{bond_id}"
        with transaction():
            execute(
                "INSERT INTO bond (id, name, contract, token, token_decimals, file_digest,"
                " face_value_per_token, maturity_date)"
                " VALUES (%s, %s, %s, 'PLT', %s, 'digest', %s, %s)",
                (bond_id, f"Bond {bond_id}", contract, decimals, face, matures),
            )
            for address, held in positions.items():
                execute(
                    "INSERT INTO bond_investor (bond_id, address, name, whitelisted)"
                    " VALUES (%s, %s, %s, true)",
                    (bond_id, address, f"holder {address[:6]}"),
                )
                for token_id, balance in held:
                    execute(
                        "INSERT INTO bond_holding VALUES (%s, %s, %s, %s)",
                        (bond_id, address, token_id, balance),
                    )
        self.chain.verify(list(positions))
        self.chain.mint(contract, [(a, t, n) for a, held in positions.items() for t, n in held])
        total = sum(n for held in positions.values() for _, n in held)
        if fund:
            units = int(total * Decimal(face) * 10**decimals)
            self.chain.fund(self.real_signer.address, token_units=units, coin_units=10**9)
        self.chain.finalize()
        return sorted(positions)

    def trigger(self, bond_id: str = "bond") -> str:
        return trigger_maturity(bond_id, "tester").run_id

    def turn(self, *, mine: bool = True) -> bool:
        """Everything once: jobs, sweeps, settlement, a block, and a second goes by."""
        ran = run_due()
        swept = sweep_all()
        if mine:
            self.chain.mine()
        settled = settle_all()
        self.pass_time(1)
        return bool(ran or swept or settled)

    def until(self, run_id: str, state: str = "finished", turns: int = 60) -> None:
        """Turn until the run is in `state`; the accounting line must hold all along."""
        for _ in range(turns):
            self.turn()
            accounting(run_id)
            if self.state(run_id) == state:
                return
        raise AssertionError(f"run is {self.state(run_id)}, not {state}: {self.legs(run_id)}")

    def until_legs(self, run_id: str, state: str, turns: int = 30) -> None:
        """Turn until a leg of the run is in `state`."""
        for _ in range(turns):
            if state in {row["state"] for row in self.legs(run_id)}:
                return
            self.turn()
        raise AssertionError(f"no leg is {state}: {self.legs(run_id)}")

    def pass_time(self, seconds: float) -> None:
        """Move the database's clock; nothing here sleeps."""
        self.seconds += seconds
        execute(
            "CREATE OR REPLACE FUNCTION overnight_now() RETURNS timestamptz LANGUAGE sql STABLE"
            f" AS $$ SELECT statement_timestamp() + interval '{self.seconds} s' $$"
        )

    def rescue(self) -> int:
        """What the rescue does once the worker's heartbeat is silent."""
        reconnect()  # the dead process' connection and its locks are gone
        rows = fetch(
            "UPDATE job_queue SET status = 'pending', claim_token = NULL, deaths = deaths + 1,"
            " run_at = overnight_now() WHERE status = 'processing' RETURNING id::text"
        )
        execute(
            "UPDATE job_outbox SET due_at = overnight_now() WHERE job_id = ANY(%s::uuid[])",
            ([job_id for (job_id,) in rows],),
        )
        return len(rows)

    def crash(self, action: Callable[[], object] | None = None) -> None:
        """Act (run what is due) until the planted crash, then rescue."""
        with pytest.raises(Crash):
            (action or run_due)()
        self.rescue()

    def redeliver(self, job_type: str) -> int:
        """Deliver every job of a type again; returns how many ran (none should)."""
        rows = fetch("SELECT id::text FROM job_queue WHERE job_type = %s", (job_type,))
        return sum(run_job(UUID(job_id)) for (job_id,) in rows)

    def run_again(self, job_type: str) -> None:
        """Run a job's body a second time, as if its completion had been lost."""
        execute(
            "WITH again AS (UPDATE job_queue SET status = 'pending', finished_at = NULL,"
            " run_at = overnight_now() WHERE job_type = %s AND status = 'completed' RETURNING *)"
            " INSERT INTO job_outbox (job_id, queue, job_type, service, priority, due_at)"
            " SELECT id, queue, job_type, service, priority, run_at FROM again",
            (job_type,),
        )
        run_due()

    def jobs(self, job_type: str) -> list[str]:
        """Ids of the unfinished jobs of a type."""
        sql = "SELECT id::text FROM job_queue WHERE job_type = %s AND finished_at IS NULL"
        return [str(row[0]) for row in fetch(sql, (job_type,))]

    def state(self, run_id: str) -> str:
        return str(fetch("SELECT state FROM payout_run WHERE id = %s", (run_id,))[0][0])

    def note(self, run_id: str) -> str:
        return str(fetch("SELECT note FROM payout_run WHERE id = %s", (run_id,))[0][0])

    def legs(self, run_id: str) -> list[dict[str, Any]]:
        names = ("id", "address", "units", "state", "reason", "alone", "burn_hash", "paid_hash")
        sql = f"SELECT id::text, {', '.join(names[1:])} FROM payout_leg WHERE run_id = %s"
        return [dict(zip(names, row, strict=True)) for row in fetch(sql + " ORDER BY 2", (run_id,))]

    def operations(self, state: str | None = None) -> list[dict[str, Any]]:
        names = ("id", "nonce", "kind", "state", "broadcast_count")
        sql = "SELECT id::text, nonce, kind, state, broadcast_count FROM chain_operation"
        rows = [dict(zip(names, row, strict=True)) for row in fetch(sql + " ORDER BY nonce")]
        return [row for row in rows if state in (None, row["state"])]

    def halted(self) -> str | None:
        [(reason,)] = fetch("SELECT halt_reason FROM wallet")
        return None if reason is None else str(reason)

    def alerts(self) -> list[str]:
        return [str(row[0]) for row in fetch("SELECT message FROM alert ORDER BY id")]

    def ledger(self, kind: str) -> dict[str, tuple[int, int]]:
        """The chain's own books, read with SQL of our own: address → (different refs, units)."""
        with closing(psycopg2.connect(self.chain_url)) as connection:
            cursor = connection.cursor()
            cursor.execute(
                "SELECT address, count(DISTINCT ref), abs(sum(delta_units)) FROM ledger"
                " WHERE canonical AND kind = %s GROUP BY address",
                (kind,),
            )
            return {address: (refs, int(units)) for address, refs, units in cursor}

    def adopt(self, rounds: int = 10) -> list[Adoption]:
        """As an operator would: adopt again until nothing is left, settling in between."""
        done = []
        for _ in range(rounds):
            done.append(adopt_wallet("ada"))
            if not done[-1].unmatched:
                return done
            self.turn()
        raise AssertionError(f"not adopted: {done[-1]}")

    def signs_nothing(self, turns: int = 5) -> None:
        """The engine turns, halted, and signs nothing."""
        hashes = fetch("SELECT count(*) FROM chain_transaction")
        for _ in range(turns):
            self.turn()
        assert fetch("SELECT count(*) FROM chain_transaction") == hashes
        assert self.halted()

    def check_paid_once(self, *run_ids: str) -> None:
        """Each paid leg: one burn and one transfer of its units on chain; nobody else got any.

        Of several runs, no two may pay the same holder.
        """
        legs = [leg for run_id in run_ids for leg in self.legs(run_id)]
        paid = {leg["address"]: int(leg["units"]) for leg in legs if leg["state"] == "paid"}
        assert self.ledger("transfer") == {a: (1, units) for a, units in paid.items()}
        burns = self.ledger("burn")
        assert {address: burns[address][0] for address in paid} == dict.fromkeys(paid, 1)
        notes = fetch("SELECT user_id, count(*) FROM notification GROUP BY 1")
        assert dict(notes) == dict.fromkeys(paid, 1)


class Backups:
    """Copies of the night's database, and the way back to one."""

    def __init__(self, night: Night) -> None:
        self.night = night
        self.names: list[str] = []

    def take(self) -> str:
        """A copy of the database as it is now; returns its URL."""
        reconnect()
        parts = urlsplit(self.night.database_url)
        name = f"overnight_test_{new_id().hex[-12:]}"
        self._server(f'CREATE DATABASE {name} TEMPLATE "{parts.path[1:]}"')
        self.names.append(name)
        return urlunsplit(parts._replace(path=f"/{name}"))

    def restore(self, url: str) -> None:
        """The old database is the database from now on; its clock goes on."""
        reconnect()
        connect_to(url)
        self.night.pass_time(0)

    def drop(self) -> None:
        for name in self.names:
            self._server(f"DROP DATABASE {name} WITH (FORCE)")

    def _server(self, statement: str) -> None:
        with closing(psycopg2.connect(self.night.chain_url)) as connection:
            connection.autocommit = True
            connection.cursor().execute(statement)


@pytest.fixture(scope="session")
def chain_url(postgres_url: str) -> Iterator[str]:
    """A mock chain of this test session; each test starts it anew."""
    parts = urlsplit(postgres_url)
    url = urlunsplit(parts._replace(path=f"/overnight_test_chain_{new_id().hex[:8]}"))
    chain = MockChain.create(url, auto_mine=False)
    chain.close()
    yield url
    MockChain(url).destroy()


@pytest.fixture
def night(database_url: str, chain_url: str) -> Iterator[Night]:
    """A night with an empty chain and an empty database."""
    connect_to(database_url)
    chain = MockChain(chain_url)
    chain.reset(auto_mine=False, finality_depth=2, fee_per_item_units=10)
    yield Night(database_url, chain, chain_url)
    reconnect()
    chain.close()


@pytest.fixture
def backups(night: Night) -> Iterator[Backups]:
    taken = Backups(night)
    yield taken
    reconnect()
    taken.drop()
