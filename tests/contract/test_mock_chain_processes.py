"""Many threads and processes share one chain, time drives it, and connections come back."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest

from domain.errors import Rejected
from mocks.chain import MockChain
from mocks.registry import MockRegistry
from providers.chain import ChainUnavailable, SignedTransaction
from providers.identity import RegistryUnavailable

if TYPE_CHECKING:
    from tests.contract.conftest import Desk

NOWHERE = "postgresql://postgres@127.0.0.1:1/nowhere"

MINER = """
import sys
from mocks.chain import MockChain
chain = MockChain(sys.argv[1])
for _ in range(15):
    chain.mine(); chain.head()
chain.close()
"""


def wait_for(reached: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


def query(url: str, statement: str) -> list[tuple[Any, ...]]:
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()


def test_creating_again_changes_nothing(desk: "Desk") -> None:
    before = desk.chain.status()
    with closing(MockChain.create(desk.url, finality_depth=9)) as again:
        assert again.status() == before
    with pytest.raises(Rejected, match="mock-1"):
        MockChain.create(desk.url, chain_id="other")


def test_processes_and_threads_agree_on_one_history(desk: "Desk", project: Path) -> None:
    start = desk.chain.head().height
    miners = [
        subprocess.Popen([sys.executable, "-c", MINER, desk.url], cwd=project) for _ in range(2)
    ]
    signed = [desk.sign(nonce) for nonce in range(20)]
    errors: list[Exception] = []

    def work(mine: list[SignedTransaction]) -> None:
        try:
            for one in mine:
                desk.chain.broadcast(one)
                desk.chain.mine()
        except Exception as error:  # noqa: BLE001 - shown by the assertion below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(signed[i::4],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [miner.wait(30) for miner in miners] == [0, 0]
    assert errors == []
    desk.chain.mine()
    assert desk.chain.head().height == start + 2 * 15 + 20 + 1
    assert len(desk.chain.receipts([s.tx_hash for s in signed])) == 20
    assert desk.paid() == 200
    broken = """SELECT count(*) FROM block b LEFT JOIN block p ON p.block_hash = b.parent_hash
                WHERE b.height > 0 AND p.height IS DISTINCT FROM b.height - 1"""
    assert query(desk.url, broken) == [(0,)]


def test_time_mines_and_two_nodes_see_the_same(chain_url: str) -> None:
    with closing(MockChain.create(chain_url, block_interval_ms=20)) as chain:
        other = MockChain(chain_url)
        wait_for(lambda: chain.head().height >= 5)
        height = chain.head().height
        assert other.block_hash(height) == chain.block_hash(height)
        other.close()


def test_after_a_long_idle_time_what_was_pending_is_final(desk: "Desk") -> None:
    signed = desk.send(0)
    height = desk.chain.head().height
    desk.chain.configure(block_interval_ms=1, auto_mine=True)
    time.sleep(0.2)
    desk.chain.configure(block_interval_ms=3_600_000)
    assert desk.chain.receipts([signed.tx_hash]) == {}
    desk.chain.configure(block_interval_ms=1)
    desk.chain.head()  # one call makes up for it, and no more than is needed
    desk.chain.configure(auto_mine=False)
    head = desk.chain.head()
    assert height + 4 <= head.height <= height + 8
    assert desk.chain.receipts([signed.tx_hash])[signed.tx_hash].height <= head.final_height


def test_connections_come_back_after_the_server_lost_them(
    desk: "Desk", registry: MockRegistry
) -> None:
    assert registry.verified([]) == set()
    query(
        desk.url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    with pytest.raises(ChainUnavailable):
        desk.chain.head()
    with pytest.raises(RegistryUnavailable):
        registry.verified([])
    assert desk.chain.head().height > 0
    assert registry.verified([]) == set()


def test_an_unreachable_server_is_an_outage() -> None:
    with pytest.raises(ChainUnavailable):
        MockChain(NOWHERE).head()
    with pytest.raises(RegistryUnavailable):
        MockRegistry(NOWHERE).verified([])


def test_a_crash_in_the_middle_leaves_nothing(desk: "Desk") -> None:
    class Crash(BaseException):
        pass

    def die() -> None:
        with desk.chain._database.transaction() as cursor:
            cursor.execute("UPDATE chain SET height = 99")
            raise Crash

    with pytest.raises(Crash):
        die()
    assert desk.chain.head().height < 99


def test_transactions_of_a_wallet_can_be_found_again(desk: "Desk") -> None:
    mined = desk.send(0)
    desk.chain.mine()
    waiting = desk.send(1)
    known = desk.chain.transactions_of(desk.signer.address)
    assert [k.tx_hash for k in known] == [mined.tx_hash, waiting.tx_hash]
    assert [k.transaction.nonce for k in known] == [0, 1]
    assert [k.receipt is not None for k in known] == [True, False]
    assert desk.signer.sign(known[0].transaction) == mined
    assert len(desk.chain.transactions_of(desk.signer.address, from_nonce=1)) == 1


def test_ten_thousand_holders_in_bulk(chain: MockChain) -> None:
    holders = [(f"holder-{number}", 1, number + 1) for number in range(10_000)]
    started = time.monotonic()
    chain.mint("0xBulk", holders)
    held = chain.bond_balances("0xBulk", [(name, 1) for name, _, _ in holders], chain.mine())
    assert time.monotonic() - started < 10
    assert sum(held.values()) == sum(units for _, _, units in holders)
    chain.reset()
    assert chain.status().height == 0
    assert chain.ledger_totals() == {}
