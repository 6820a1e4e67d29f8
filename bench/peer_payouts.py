"""The payouts' peer: PGQueuer pays the same bond on the same mock chain, in two forms.

    bond on stdin → legs in one COPY, jobs → worker processes: burn → final → transfer → final, told

    .venv-bench/bin/python -m bench.peer_payouts legs|pages URL CHAIN_URL PAGE_LEGS TX_LEGS N KEY

`legs` is one job per leg and phase, as one writes it with PGQueuer; `pages` is the same design as
ours, paged and set-based by hand. Prints the seconds from the trigger to the last notification.
"""

import asyncio
import json
import multiprocessing
import sys
import time
from dataclasses import dataclass
from typing import Any

import asyncpg
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.core.qm import QueueManager

from bench.peer_payouts_chain import Node
from bench.peer_payouts_jobs import FORMS, Terms
from domain.payouts import Position, holdings_text, leg_ref, plan_redemption

RUN_ID = "00000000-0000-4000-8000-000000000001"
POLL_S = 0.05

#: The same rows as ours, without what only our operators need.
SCHEMA = """
CREATE TABLE wallet (next_nonce bigint NOT NULL);
INSERT INTO wallet VALUES (0);
CREATE TABLE holding (address text, token_id bigint, balance numeric(78, 0),
                      PRIMARY KEY (address, token_id));
CREATE TABLE leg (
    id integer PRIMARY KEY, page integer NOT NULL, address text NOT NULL UNIQUE,
    units numeric(78, 0) NOT NULL, holdings jsonb NOT NULL,
    burn_ref text NOT NULL UNIQUE, transfer_ref text NOT NULL UNIQUE,
    state text NOT NULL DEFAULT 'planned', paid_hash text) WITH (fillfactor = 70);
CREATE INDEX leg_page ON leg (page);
CREATE TABLE operation (
    nonce bigint PRIMARY KEY, kind text NOT NULL, state text NOT NULL DEFAULT 'intent',
    unsigned text, page integer, tx_hash text, raw bytea, mined_height bigint);
CREATE INDEX operation_page ON operation (page, kind);
CREATE TABLE operation_leg (
    nonce bigint NOT NULL REFERENCES operation, leg_id integer NOT NULL REFERENCES leg,
    phase text NOT NULL, PRIMARY KEY (leg_id, phase));
CREATE INDEX operation_leg_nonce ON operation_leg (nonce);
CREATE TABLE notification (
    user_id text NOT NULL, title text NOT NULL, message text NOT NULL, dedup_key text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (user_id, dedup_key));
"""


@dataclass(frozen=True)
class Settings:
    """What every process of the peer is told."""

    form: str
    url: str
    chain_url: str
    key: str
    terms: Terms


async def install(settings: Settings, bond: dict[str, Any]) -> None:
    """The tables, and the bond's register: the import, before the clock runs."""
    connection = await asyncpg.connect(settings.url)
    await Queries(AsyncpgDriver(connection)).install()
    await connection.execute(SCHEMA)
    rows = [
        (investor["address"], holding["token_id"], int(holding["balance"]))
        for investor in bond["investors"]
        for holding in investor["holdings"]
    ]
    await connection.copy_records_to_table("holding", records=rows)
    await connection.execute("ANALYZE")
    await connection.close()


async def trigger(settings: Settings, face_value: Any, decimals: int) -> int:
    """Plan from the register, insert the legs and enqueue their first jobs, in one transaction."""
    connection = await asyncpg.connect(settings.url)
    queries, size = Queries(AsyncpgDriver(connection)), settings.terms.page_legs
    async with connection.transaction():
        rows = await connection.fetch("SELECT address, token_id, balance FROM holding")
        positions = (Position(address, token, int(balance)) for address, token, balance in rows)
        legs = plan_redemption(positions, face_value, decimals)
        place = (settings.terms.chain_id, "bench", RUN_ID)
        records = [
            (
                number, number // size, leg.address, leg.units,
                holdings_text(leg.holdings),
                leg_ref(*place, leg.address, "burn"), leg_ref(*place, leg.address, "transfer"),
            )
            for number, leg in enumerate(legs)
        ]  # fmt: skip
        columns = ["id", "page", "address", "units", "holdings", "burn_ref", "transfer_ref"]
        await connection.copy_records_to_table("leg", records=records, columns=columns)
        count = len(legs) if settings.form == "legs" else -(-len(legs) // size)
        payloads: list[bytes | None] = [str(number).encode() for number in range(count)]
        await queries.enqueue(["burn"] * count, payloads, [0] * count)
    await connection.close()
    return len(legs)


async def work(settings: Settings, ready: Any) -> None:
    """A worker process, until it is terminated."""
    form = FORMS[settings.form]
    connection = await asyncpg.connect(settings.url)
    pool = await asyncpg.create_pool(settings.url, min_size=form.pool, max_size=form.pool)
    manager = QueueManager(Queries(AsyncpgDriver(connection)))
    node = Node(settings.chain_url, settings.key, form.threads)
    form.bind(manager, pool, node, settings.terms)
    watching = asyncio.create_task(node.watch())
    asyncio.get_running_loop().call_later(0.5, ready.release)
    await manager.run(batch_size=form.batch, max_concurrent_tasks=form.concurrent)
    watching.cancel()


async def measure(settings: Settings, face_value: Any, decimals: int) -> float:
    """From the trigger to the last notification, in seconds."""
    connection = await asyncpg.connect(settings.url)
    start = time.perf_counter()
    legs = await trigger(settings, face_value, decimals)
    while await connection.fetchval("SELECT count(*) FROM notification") < legs:
        await asyncio.sleep(POLL_S)
    return time.perf_counter() - start


def _run(settings: Settings, ready: Any) -> None:
    import uvloop

    uvloop.run(work(settings, ready))


def main() -> None:
    """See the module's docstring."""
    from decimal import Decimal

    form, url, chain_url, page_legs, tx_legs, processes, key = sys.argv[1:]
    bond = json.load(sys.stdin)
    terms = Terms(
        contract=bond["bond"]["contract"], token=bond["bond"]["token"], name=bond["bond"]["name"],
        page_legs=int(page_legs), tx_legs=int(tx_legs),
    )  # fmt: skip
    settings = Settings(form, url, chain_url, key, terms)
    asyncio.run(install(settings, bond))
    ready = multiprocessing.Semaphore(0)
    workers = [
        multiprocessing.Process(target=_run, args=(settings, ready)) for _ in range(int(processes))
    ]
    for worker in workers:
        worker.start()
    for _ in workers:
        ready.acquire()
    print("ready", flush=True)
    face_value = Decimal(bond["bond"]["face_value_per_token"])
    seconds = asyncio.run(measure(settings, face_value, bond["bond"]["token_decimals"]))
    for worker in workers:
        worker.kill()
    print(seconds)


if __name__ == "__main__":
    main()
