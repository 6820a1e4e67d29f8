"""The composition root of everything that runs jobs: settings in, ports and a broker out.

    settings → use_ports, use_policy, connect_to → broker with actors, inbox, ticks and loops

The `overnight` command, plain `dramatiq actors` and plain `periodiq schedules` all start here.
"""

import importlib
from datetime import timedelta
from urllib.parse import urlsplit, urlunsplit

import dramatiq

from actors.market_wiring import build_market_ports
from domain.errors import InvalidInput
from domain.job_types import use_overrides
from jobs.loops import Loop
from jobs.process import inprocess_broker, rabbitmq_broker
from jobs.ticks import declare_tick
from models.database import connect_to
from providers.ports import PayoutPolicy, Ports, use_market_ports, use_policy, use_ports
from settings import Settings
from usecases.job_operations import use_retention
from usecases.research.download import DownloadLimits
from usecases.research.policy import ResearchPolicy, use_research_policy
from usecases.schedule import open_due_slots

#: Every module that binds actors; another service is plugged in here (docs/services.md).
ACTOR_MODULES = (
    "actors.maturity",
    "actors.notifications",
    "actors.market",
    "actors.system",
)

#: The sweep only finds what was left behind: it looks once in so many intervals of the settlement.
SWEEP_PACE = 4

#: How often held legs are asked about again: people are verified in hours, not in seconds.
RECHECK_INTERVAL_S = 30.0


def wire(settings: Settings) -> None:
    """Give this process its database, ports and policy. Nothing connects yet.

    Raises:
        InvalidInput: no database, or production without a real chain client.
    """
    connect_to(database_url(settings), f"overnight {settings.environment_id}")
    use_overrides(settings.overrides)
    use_retention(timedelta(days=settings.job_retention_days))
    use_ports(build_ports(settings))
    wire_research(settings)
    use_policy(
        PayoutPolicy(
            environment_id=settings.environment_id,
            page_legs=settings.payout_page_legs,
            legs_per_transaction=settings.legs_per_transaction,
            fee_cap_units=settings.fee_cap_units,
            fee_limit_units=settings.fee_limit_units,
            four_eyes_above=settings.four_eyes_above,
            max_unsettled_nonces=settings.max_unsettled_nonces,
            rebroadcast_after_s=settings.rebroadcast_after_s,
            replace_after_s=settings.replace_after_s,
        )
    )


def wire_research(settings: Settings) -> None:
    """Give this process the providers of research data. Raises InvalidInput in production."""
    use_market_ports(build_market_ports(settings))
    megabyte = 1_000_000
    use_research_policy(
        ResearchPolicy(
            documents_folder=settings.documents_folder,
            concurrency=settings.market_concurrency,
            limits=DownloadLimits(settings.document_max_mb * megabyte, settings.document_max_s),
        )
    )


def load_actors() -> None:
    """Bind every job type to what runs it, in this process."""
    for module in ACTOR_MODULES:
        importlib.import_module(module)


def build_broker(settings: Settings) -> dramatiq.Broker:
    """The broker with every actor declared: RabbitMQ if AMQP_URL is set, else in-process."""
    load_actors()
    loops, threads = payout_loops(settings), settings.worker_threads
    window = settings.relay_window
    broker: dramatiq.Broker
    if settings.amqp_url is None:
        # Without a scheduler beside it, an in-process worker looks for due slots itself.
        slots = Loop("slots", open_due_slots, interval_s=30)
        return inprocess_broker(threads=threads, loops=[*loops, slots], window=window)
    broker = rabbitmq_broker(
        settings.amqp_url.get_secret_value(),
        queue_prefix=settings.queue_prefix,
        threads=threads,
        loops=loops,
        window=window,
    )
    declare_tick(broker, "open_due_slots", open_due_slots, settings.queue_prefix)
    return broker


def payout_loops(settings: Settings) -> list[Loop]:
    """What settles, rebroadcasts, releases and sweeps; in every worker, one at a time a wallet."""
    from usecases.payouts.retry import recheck_held
    from usecases.payouts.sweep import settle_and_release, sweep_all

    def settle() -> None:
        settle_and_release()  # whatever it found: there is nothing more before the next block

    interval_s = settings.loop_interval_ms / 1000
    return [
        Loop("settlement", settle, interval_s),
        Loop("sweep", sweep_all, interval_s * SWEEP_PACE),
        Loop("recheck", recheck_held, RECHECK_INTERVAL_S),
    ]


def build_ports(settings: Settings) -> Ports:
    """The chain, the registry and the wallet's signer."""
    if settings.environment == "production":
        raise InvalidInput(
            "ENVIRONMENT=production: no real chain client is configured yet, and the mock chain "
            "never runs in production; use ENVIRONMENT=development or test"
        )
    from mocks.chain import MockChain, MockSigner  # gated: never loaded in production
    from mocks.registry import MockRegistry

    url = mock_chain_url(settings)
    return Ports(
        chain=MockChain(url),
        registry=MockRegistry(url),
        signer=MockSigner(settings.wallet_key.get_secret_value()),
    )


def database_url(settings: Settings) -> str:
    """DATABASE_URL; raises InvalidInput when it is not set."""
    if settings.database_url is None:
        raise InvalidInput("DATABASE_URL is not set: postgresql://user:password@host:5432/name")
    return settings.database_url.get_secret_value()


def mock_chain_url(settings: Settings) -> str:
    """MOCK_CHAIN_URL, or the database `<name>_chain` on the same server."""
    if settings.mock_chain_url is not None:
        return settings.mock_chain_url.get_secret_value()
    parts = urlsplit(database_url(settings))
    return urlunsplit(parts._replace(path=f"{parts.path}_chain"))
