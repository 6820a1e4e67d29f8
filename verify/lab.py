"""The laboratory: a database of its own for each process of the simulation.

    Lab.open → reset → schedule → reset → … → close (the database is dropped)

The program's tables and the mock chain's live in one database, so that one statement empties both.
"""

import gc
import importlib
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

import psycopg2
import structlog
from psycopg2.extensions import cursor as Cursor  # noqa: N812 - a class, badly named

from actors.wiring import ACTOR_MODULES
from mocks.chain import MockChain
from mocks.chain.node import Struck
from mocks.chain.options import OptionChanges
from mocks.chain.schema import TABLES as CHAIN_TABLES
from mocks.chain.schema import drop_database
from mocks.registry import MockRegistry
from models.database import connect_to, db, reconnect
from models.migrate import migrate
from providers.chain import UnsignedTransaction
from verify.clock import CLOCK
from verify.connections import Monitor, SimulatedConnection, switchboard
from verify.memory import forget_real_time
from verify.prepared import Plans, PreparedConnection, PreparedCursor
from verify.research.reservations import RESERVATIONS
from verify.strands import Strand
from verify.troubles import FINALITY_DEPTH

#: Strands that may be at work at once: two workers with two threads each, and a person.
STRANDS = 5

#: The mock chain of every schedule, as it begins.
CHAIN = OptionChanges(auto_mine=False, finality_depth=FINALITY_DEPTH, fee_per_item_units=10)

#: Deleted rows leave their space behind: after so many schedules the tables are made anew.
TRUNCATE_EVERY = 50

#: Nothing here outlives a crash of PostgreSQL, and no other clock than ours may end anything.
_SESSION = (
    "-c synchronous_commit=off -c jit=off -c timezone=UTC -c deadlock_timeout=10min"
    " -c idle_in_transaction_session_timeout=0 -c plan_cache_mode=force_generic_plan"
)

#: What a schedule never writes to, and migrations keep.
_KEPT = {"schema_migration", "verify_chain", "verify_block"}


@contextmanager
def _few_collections() -> Iterator[None]:
    """What is loaded by now stays: looking through it again and again took a tenth of the time."""
    usual = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    try:
        yield
    finally:
        gc.set_threshold(*usual)
        gc.unfreeze()


class ChainConnection(PreparedConnection):
    """As unsafe and as planned as the others here."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.autocommit = True
        with self.cursor() as cursor:
            cursor.execute(
                "SET synchronous_commit = off; SET jit = off;"
                " SET plan_cache_mode = force_generic_plan"
            )


class QuietChain(MockChain):
    """A mock chain whose calls meet no stored faults, and mine nothing by themselves.

    Both are the scheduler's here; it saves a statement a call.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._database.connection_factory = ChainConnection

    @contextmanager
    def _call(
        self, op: str, body: UnsignedTransaction | None = None
    ) -> Iterator[tuple[Cursor, Struck]]:
        with self._database.session() as cursor:
            yield cursor, {}


class Lab:
    """A database, its strands, and the monitor. One in each process."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self._folder = url, folder
        self._resets = 0
        self._connection = psycopg2.connect(
            url, options=_SESSION, connection_factory=PreparedConnection
        )
        self._connection.autocommit = True
        self._cursor = self._connection.cursor()
        self.execute("CREATE TABLE verify_effect (key text NOT NULL, job uuid)")
        self.execute(RESERVATIONS)
        self.tables = self._find_tables()
        self._prepare()
        self.chain = QuietChain(url)
        self.monitor = Monitor(url)
        self.registry = MockRegistry(url)
        self.plans = PreparedCursor.plans = Plans(url)
        self.chain.head()  # their one connection each is there before a schedule begins
        self.registry.verified([])
        opener: Any = db  # what Peewee calls for each thread
        switchboard.parked += [opener._connect() for _ in range(STRANDS)]
        self.strands = [Strand(f"s{n}", self.monitor) for n in range(1, STRANDS + 1)]

    @classmethod
    @contextmanager
    def open(cls, server_url: str) -> Iterator[Self]:
        """A new database on that server, dropped at the end; the program is connected to it."""
        parts = urlsplit(server_url)
        name = f"overnight_verify_{secrets.token_hex(6)}"
        url = urlunsplit(parts._replace(path=f"/{name}"))
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
        for module in ACTOR_MODULES:
            importlib.import_module(module)
        try:
            migrate(url)
            MockChain.create(url, **CHAIN).close()
            connect_to(url, "overnight verify")
            db.connect_params["connection_factory"] = SimulatedConnection.open
            db.connect_params["options"] = _SESSION
            forget_real_time()
            with _few_collections(), TemporaryDirectory(prefix="overnight-verify-") as folder:
                lab = cls(url, Path(folder))
                try:
                    yield lab
                finally:
                    lab.close()
        finally:
            reconnect()
            drop_database(url)

    def execute(self, sql: str, params: Any = None) -> list[tuple[Any, ...]]:
        """A statement of the scheduler's own: no point, no fault."""
        self._cursor.execute(sql, params)
        return self._cursor.fetchall() if self._cursor.description else []

    def reset(self) -> None:
        """Empty every table; the chain is at its genesis, as it was made."""
        if self._resets % TRUNCATE_EVERY == 0:
            self.execute(f"TRUNCATE {', '.join(self.tables)} RESTART IDENTITY CASCADE")
        self._resets += 1
        self.execute(self._empty)

    def empty_folder(self) -> Path:
        """For a schedule's files; those of the one before are gone."""
        found = self._folder / "schedule"
        shutil.rmtree(found, ignore_errors=True)
        found.mkdir()
        return found

    def close(self) -> None:
        """End the strands, with their connections."""
        for strand in self.strands:
            strand.close(reconnect)
        for connection in switchboard.parked:
            connection.close()
        switchboard.parked.clear()
        self.chain.close()
        self.registry.close()
        self.monitor.close()
        self.plans.close()
        self._connection.close()
        switchboard.monitor = PreparedCursor.plans = None

    def _find_tables(self) -> list[str]:
        rows = self.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename"
        )
        return [name for (name,) in rows if name not in _KEPT]

    def _prepare(self) -> None:
        """What makes a reset one statement: the genesis as rows, and no triggers while deleting."""
        self.execute("CREATE TABLE verify_chain AS TABLE chain")
        self.execute("CREATE TABLE verify_block AS TABLE block")
        for table in self.tables:
            self.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = false)")
        sequences = self.execute(
            "SELECT quote_ident(sequencename) FROM pg_sequences WHERE schemaname = 'public'"
            " ORDER BY 1"
        )
        for statement in CLOCK:
            self.execute(statement)
        # The genesis block has the first number.
        restart = "; ".join(
            f"SELECT setval('{name}', 1, {str(name == 'block_id_seq').lower()})"
            for (name,) in sequences
        )
        delete = "; ".join(f"DELETE FROM {table}" for table in self.tables)
        self._empty = (
            f"BEGIN; SET LOCAL session_replication_role = replica; {delete}; {restart};"
            " INSERT INTO chain SELECT * FROM verify_chain;"
            " INSERT INTO block OVERRIDING SYSTEM VALUE SELECT * FROM verify_block; COMMIT"
        )
        assert set(CHAIN_TABLES.split(", ")) <= set(self.tables)
