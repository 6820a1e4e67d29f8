"""A mock chain of one test's own, steered by hand, with a funded wallet and some holders."""

import secrets
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

import pytest

from mocks.chain import MockChain, MockSigner, address_of
from mocks.registry import MockRegistry
from providers.chain import SignedTransaction, TxItem, TxKind, UnsignedTransaction

BOND = "0xBond"
TOKEN = "PLT"
SERIES = 20_000  # a token id: days since 1970-01-01


@dataclass
class Desk:
    """A chain with a funded wallet and holders of a bond: what every scenario starts from."""

    chain: MockChain
    url: str
    signer: MockSigner = field(default_factory=lambda: MockSigner("wallet"))
    holders: list[str] = field(default_factory=lambda: [address_of(f"h{i}") for i in range(5)])

    def ref(self) -> str:
        """A ref that nobody used."""
        return secrets.token_hex(32)

    def item(self, holder: int = 0, units: int = 10, **changes: object) -> TxItem:
        """A payment to a holder."""
        fields = {"ref": self.ref(), "address": self.holders[holder], "units": units} | changes
        return TxItem(**fields)  # type: ignore[arg-type] # named by the test

    def burn_item(self, holder: int = 0, units: int = 10, **changes: object) -> TxItem:
        """A burn of a holder's tokens."""
        return self.item(holder, units, **({"token_id": SERIES} | changes))

    def sign(
        self,
        nonce: int,
        *items: TxItem,
        kind: TxKind = TxKind.TRANSFER,
        fee_cap_units: int = 1_000,
    ) -> SignedTransaction:
        """A signed transaction of the wallet; one payment to the first holder by default."""
        contract = BOND if kind is TxKind.BURN else TOKEN
        return self.signer.sign(
            UnsignedTransaction(
                self.chain.chain_id(),
                self.signer.address,
                nonce,
                kind,
                contract,
                items or (self.item(),),
                fee_cap_units,
            )
        )

    def send(self, nonce: int, *items: TxItem, kind: TxKind = TxKind.TRANSFER) -> SignedTransaction:
        """Sign and broadcast."""
        signed = self.sign(nonce, *items, kind=kind)
        self.chain.broadcast(signed)
        return signed

    def paid(self, holder: int = 0) -> int:
        """What a holder has of the payment token at the head."""
        height = self.chain.head().height
        return self.chain.token_balance(TOKEN, self.holders[holder], height)


@pytest.fixture
def chain_url(postgres_url: str) -> Iterator[str]:
    """The URL of a database that does not exist yet, gone after the test."""
    url = urlunsplit(urlsplit(postgres_url)._replace(path=f"/mock_{secrets.token_hex(6)}"))
    yield url
    with closing(MockChain(url)) as chain:
        chain.destroy()


@pytest.fixture
def chain(chain_url: str) -> Iterator[MockChain]:
    """A chain that mines only when told."""
    with closing(MockChain.create(chain_url, auto_mine=False, finality_depth=3)) as chain:
        yield chain


@pytest.fixture
def registry(chain: MockChain, chain_url: str) -> Iterator[MockRegistry]:
    """The registry beside the chain."""
    with closing(MockRegistry(chain_url)) as registry:
        yield registry


@pytest.fixture
def desk(chain: MockChain, chain_url: str) -> Desk:
    """Five holders of 100 bond tokens each, a wallet of 1,000 payment tokens; all final."""
    desk = Desk(chain, chain_url)
    chain.fund(desk.signer.address, token_units=1_000, coin_units=100_000)
    chain.mint(BOND, [(holder, SERIES, 100) for holder in desk.holders])
    chain.finalize()
    return desk
