"""A mock chain of one test's own, steered by hand, with a funded wallet; a local HTTP server."""

import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import pytest

from mocks.chain import MockChain, MockSigner, address_of
from mocks.registry import MockRegistry
from providers.chain import SignedTransaction, TxItem, TxKind, UnsignedTransaction

#: A status, headers and a body.
Page = tuple[int, dict[str, str], bytes]

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


class Pages:
    """A local HTTP server: path → (status, headers, body) or a function of the query to one."""

    def __init__(self) -> None:
        self.routes: dict[str, Page | Callable[[dict[str, str]], Page]] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []  # (path and query, headers)
        pages = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                pages.asked.append((self.path, dict(self.headers)))
                parts = urlsplit(self.path)
                route = pages.routes.get(parts.path, (404, {}, b"not here"))
                page = route(dict(parse_qsl(parts.query))) if callable(route) else route
                status, headers, body = page
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(body))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing: the tests read `asked`."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def url(self, path: str) -> str:
        """The address of a path."""
        return f"http://{self.host}{path}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def pages() -> Iterator[Pages]:
    """A local HTTP server of this test's own."""
    with closing(Pages()) as served:
        yield served
