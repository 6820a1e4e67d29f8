"""The composition root of the commands: settings in, a database and the outside world out.

    settings → DATABASE_URL, or a private PostgreSQL in OVERNIGHT_HOME → schema → ports

Imports what runs jobs only where a command needs it: the others start sooner, and a wrong
environment is reported by the command. The private server is attached to where it runs already,
else started for as long as the command.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from cli.folder import sole_worker
from cli.logs import configure_logs
from cli.output import remark
from domain.errors import InvalidInput, Rejected
from domain.job_types import use_overrides
from mocks.chain import MockChain
from models.database import connect_to, db, reconnect
from models.migrate import MIGRATIONS, migrate
from servers.postgres import PrivatePostgres
from settings import Settings, load_settings

#: The database's name on the private server.
EMBEDDED_DATABASE = "overnight"

#: How long a worker waits for a short command to let go of the private server.
OWNER_WAIT_S = 30.0


@contextmanager
def server(settings: Settings | None = None, *, own: bool = False) -> Iterator[Settings]:
    """Settings that know a running server: `database_url` is set.

    `own`: a private server must live as long as this process, not as long as another command.
    """
    if settings is None:
        settings = load_settings()
        configure_logs(settings.log_format, settings.log_level)
    if settings.database_url is not None:
        yield settings
        return
    with _private_server(settings.overnight_home, own) as private:
        url = SecretStr(private.url(EMBEDDED_DATABASE))
        yield settings.model_copy(update={"database_url": url})


@contextmanager
def database(settings: Settings | None = None, *, own_server: bool = False) -> Iterator[Settings]:
    """A connected database of the newest schema; a private one is brought there.

    Raises Rejected where somebody has to run `overnight migrate` first.
    """
    embedded = (settings or load_settings()).database_url is None
    with server(settings, own=own_server) as located:
        assert located.database_url is not None
        url = located.database_url.get_secret_value()
        if embedded:
            migrate(url)
        _connect(url)
        try:
            if not embedded:
                _check_schema()
            use_overrides(located.overrides)
            yield located
        finally:
            reconnect()


@contextmanager
def world(settings: Settings | None = None, *, own_server: bool = False) -> Iterator[Settings]:
    """The same with chain, registry, signer and policy. Raises InvalidInput in production."""
    from actors.wiring import wire

    with database(settings, own_server=own_server) as located:
        if located.environment != "production":
            mock_chain(located).close()  # there before the first call
        wire(located)
        yield located


@contextmanager
def research(settings: Settings | None = None, *, own_server: bool = False) -> Iterator[Settings]:
    """A database with the providers of research data. Raises InvalidInput in production."""
    from actors.wiring import wire_research

    with database(settings, own_server=own_server) as located:
        wire_research(located)
        yield located


@contextmanager
def process(settings: Settings | None = None) -> Iterator[Settings]:
    """What a process that runs jobs needs; without RabbitMQ it is the only one of its folder."""
    wanted = settings or load_settings()
    with ExitStack() as stack:
        if wanted.amqp_url is None:
            stack.enter_context(sole_worker(wanted.overnight_home))
        yield stack.enter_context(world(settings, own_server=True))


def mock_chain(settings: Settings) -> MockChain:
    """The mock chain of these settings. Raises InvalidInput in production."""
    if settings.environment == "production":
        raise InvalidInput("ENVIRONMENT=production has no mock chain")
    from actors.wiring import mock_chain_url

    return MockChain.create(mock_chain_url(settings))


def place_of(settings: Settings) -> str:
    """Where the database is, for people: never with its password."""
    assert settings.database_url is not None
    parts = urlsplit(settings.database_url.get_secret_value())
    return f"{parts.hostname}:{parts.port or 5432}{parts.path}"


def _connect(url: str) -> None:
    try:
        connect_to(url)
    except ValueError as error:
        raise InvalidInput(str(error)) from None


def _check_schema() -> None:
    from playhouse.migrations import Runner

    pending = [m.name for m in Runner(db, str(MIGRATIONS)).status() if m.applied is None]
    if pending:
        raise Rejected(f"the database lacks {', '.join(pending)}: run `overnight migrate`")


@contextmanager
def _private_server(folder: Path, own: bool) -> Iterator[PrivatePostgres]:
    if not (folder / "postgres.log").exists():
        remark(f"starting a private PostgreSQL in {folder.absolute()} (DATABASE_URL is not set)")
    with PrivatePostgres(folder) as private:
        give_up_at = time.monotonic() + OWNER_WAIT_S
        while own and not private.owned:
            if time.monotonic() > give_up_at:
                raise Rejected(
                    f"another overnight command keeps the PostgreSQL in {folder.absolute()} open:"
                    " end it and try again"
                )
            time.sleep(0.1)
            private.start()
        yield private
