"""The stage: PostgreSQL, RabbitMQ and a chain of our own, the first two behind proxies.

    servers start side by side → proxies → environment of the fleet → everything ends with us

The chain has a PostgreSQL of its own, without a proxy: it is the outside world, and its faults are
its own. What watches and measures connects past the proxies.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from mocks.chain import MockChain
from servers.discover import private_postgres, private_rabbitmq
from servers.postgres import PrivatePostgres
from servers.rabbitmq import PrivateRabbitMQ
from verify.real.proxy import Proxy

DATABASE = "overnight"
CHAIN = "overnight_chain"

#: Runs above this need a second person; `verify.real.waves` makes bonds on both sides of it.
FOUR_EYES_ABOVE_TOKENS = 1_000_000


@dataclass(frozen=True)
class Stage:
    """The servers of a lane. URLs are direct; the fleet's environment goes through the proxies."""

    folder: Path
    postgres: PrivatePostgres
    chain_postgres: PrivatePostgres
    rabbitmq: PrivateRabbitMQ
    database_proxy: Proxy
    amqp_proxy: Proxy

    @property
    def database_url(self) -> str:
        """The program's database, past the proxy."""
        return self.postgres.url(DATABASE)

    @property
    def proxied_database_url(self) -> str:
        """The same as the fleet sees it."""
        return f"postgresql://postgres@127.0.0.1:{self.database_proxy.port}/{DATABASE}"

    @property
    def proxied_amqp_url(self) -> str:
        """The broker as the fleet sees it."""
        return f"amqp://guest:guest@127.0.0.1:{self.amqp_proxy.port}/"

    @property
    def chain_url(self) -> str:
        """The mock chain's database."""
        return self.chain_postgres.url(CHAIN)

    @property
    def environment(self) -> dict[str, str]:
        """What a fleet's processes read. Small pages and transactions meet more seams."""
        return {
            "ENVIRONMENT": "test",
            "ENVIRONMENT_ID": "real-lane",
            "DATABASE_URL": self.proxied_database_url,
            "AMQP_URL": self.proxied_amqp_url,
            "MOCK_CHAIN_URL": self.chain_url,
            "FOUR_EYES_ABOVE": str(FOUR_EYES_ABOVE_TOKENS),
            "PAYOUT_PAGE_LEGS": "100",
            "LEGS_PER_TRANSACTION": "25",
            "LOG_FORMAT": "json",
        }


@contextmanager
def stage(folder: Path) -> Iterator[Stage]:
    """Start everything in `folder`; at the end nothing of it runs, and the servers' data is gone.

    Raises ServerMissing where PostgreSQL or RabbitMQ can't be had.
    """
    postgres = private_postgres(folder / "postgres")
    chain_postgres = private_postgres(folder / "chain", durable=False)
    rabbitmq = private_rabbitmq(folder / "rabbitmq")
    with ExitStack() as stack:
        for server in (postgres, chain_postgres, rabbitmq):
            stack.callback(server.delete)
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda each: each.start(), (postgres, chain_postgres, rabbitmq)))
        MockChain.create(chain_postgres.url(CHAIN)).close()
        database_proxy = stack.enter_context(Proxy(lambda: postgres.port))
        amqp_proxy = stack.enter_context(Proxy(lambda: rabbitmq.port))
        yield Stage(folder, postgres, chain_postgres, rabbitmq, database_proxy, amqp_proxy)
