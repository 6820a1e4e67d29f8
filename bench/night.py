"""A night to be measured: one matured bond, its holders on a mock chain, and what must be true.

    holders → chain (bonds, money, registry) → contestant → ledger: one burn and one payment each

Every contestant gets a chain of its own with the same options, in a database of its own.
"""

import contextlib
import json
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from urllib.parse import urlsplit, urlunsplit

import psycopg2
from eth_utils.address import to_checksum_address

from cli.mock_seeding import seed_mock_chain
from domain.bond_file import BondFile, read_bond_file
from mocks.chain import MockChain, MockSigner
from providers.chain import TxItem, TxKind, UnsignedTransaction

KEY = "bench-wallet"
UNITS_PER_TOKEN = 100_250_000

#: 100 ms blocks, final after three more. The limits per block and sender are far above what anybody
#: reaches: one job per leg sends a hundred times as many transactions, and should not queue here.
BLOCK_INTERVAL_MS, FINALITY_DEPTH = 100, 3
OPTIONS = {"max_block_transactions": 2_000, "max_pending_per_sender": 100_000}


@dataclass(frozen=True)
class Bond:
    """A bond file: as text for an import, and read."""

    text: str
    file: BondFile


def bond_of(holders: int) -> Bond:
    """A matured bond; its holders have one to three token ids each, and all are whitelisted."""
    source = random.Random(2026)  # noqa: S311 - the same holders in every turn
    investors = [
        {
            "address": str(to_checksum_address(f"0x{1_000_000 + number:040x}")),
            "whitelisted": True,
            "holdings": [
                {"token_id": 20_000 + index, "balance": str(source.randint(1, 500))}
                for index in range(source.randint(1, 3))
            ],
        }
        for number in range(holders)
    ]
    terms = {
        "id": "BENCH-2026",
        "name": "A bond of the benchmarks",
        "contract": str(to_checksum_address(f"0x{77:040x}")),
        "token": "PLT",
        "token_decimals": 6,
        "face_value_per_token": "100.25",
        "maturity_date": date(2026, 1, 31).isoformat(),
    }
    text = json.dumps({"bond": terms, "investors": investors})
    return Bond(text, read_bond_file(text))


@contextlib.contextmanager
def chain_of(url: str, bond: Bond) -> Iterator[str]:
    """The URL of a chain with the bond's holders and a rich wallet, beside the database `url`."""
    parts = urlsplit(url)
    place = urlunsplit(parts._replace(path=f"{parts.path}_chain"))
    chain = MockChain.create(
        place, block_interval_ms=BLOCK_INTERVAL_MS, finality_depth=FINALITY_DEPTH, **OPTIONS
    )
    try:
        chain.fund(MockSigner(KEY).address, token_units=10**18, coin_units=10**12)
        seed_mock_chain(chain, bond.file)
        _analyse(place)
        yield place
    finally:
        chain.destroy()


def _analyse(url: str) -> None:
    """Statistics now, and not whenever autovacuum comes by in the middle of somebody's turn."""
    with contextlib.closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        connection.cursor().execute("ANALYZE")


def pay_without_keeping(chain_url: str, bond: Bond, legs_per_transaction: int) -> None:
    """Burn and pay everybody with two threads, each phase final before the next."""
    chain, signer = MockChain(chain_url), MockSigner(KEY)
    investors, terms, nonce = bond.file.investors, bond.file.terms, 0
    with ThreadPoolExecutor(2) as pool:
        for kind in TxKind:
            signed = []
            for first in range(0, len(investors), legs_per_transaction):
                items = []
                for number, each in enumerate(investors[first : first + legs_per_transaction]):
                    ref, total = f"{first + number:064x}", sum(n for _, n in each.holdings)
                    items += (
                        [TxItem(ref, each.address, n, token) for token, n in each.holdings]
                        if kind is TxKind.BURN
                        else [TxItem(ref, each.address, total * UNITS_PER_TOKEN)]
                    )
                contract = terms.contract if kind is TxKind.BURN else terms.token
                signed.append(
                    signer.sign(
                        UnsignedTransaction(
                            "mock-1", signer.address, nonce, kind, contract, tuple(items),
                            1_000 * len(items),
                        )
                    )
                )  # fmt: skip
                nonce += 1
            list(pool.map(chain.broadcast, signed))
            hashes = [each.tx_hash for each in signed]
            while len(_final(chain, hashes)) < len(hashes):
                time.sleep(0.02)
    chain.close()


def _final(chain: MockChain, hashes: list[str]) -> list[str]:
    final_height = chain.head().final_height
    return [h for h, receipt in chain.receipts(hashes).items() if receipt.height <= final_height]


def assert_paid_once(chain_url: str, bond: Bond) -> int:
    """The chain's own ledger: one burn and one payment a holder; returns how many transactions."""
    with contextlib.closing(psycopg2.connect(chain_url)) as connection:
        cursor = connection.cursor()
        cursor.execute(
            "SELECT kind, address, count(DISTINCT (tx_hash, ref)), sum(abs(delta_units))"
            " FROM ledger WHERE canonical AND kind IN ('burn', 'transfer') GROUP BY kind, address"
        )
        moves = {(kind, address): (times, int(units)) for kind, address, times, units in cursor}
        cursor.execute("SELECT count(*) FROM tx WHERE status = 'mined'")
        [(mined,)] = cursor.fetchall()
    tokens = {each.address: sum(n for _, n in each.holdings) for each in bond.file.investors}
    burns = {("burn", address): (1, count) for address, count in tokens.items()}
    payments = {("transfer", a): (1, count * UNITS_PER_TOKEN) for a, count in tokens.items()}
    assert moves == burns | payments, "somebody was not paid exactly once"
    return int(mined)
