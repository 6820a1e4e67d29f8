"""What every test may ask for: real services, a database of its own, queues of its own.

A missing service skips its tests loudly on a laptop; where CI is set, any skip is a failure.
"""

import contextlib
import os
import re
import secrets
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pika
import psycopg2
import pytest

from servers.discover import Services
from servers.errors import ServerError, ServerMissing

KINDS = ("unit", "integration", "e2e", "contract", "crash", "verify")
NEEDS_POSTGRES = {"postgres_url", "template_database", "database_url"}
NEEDS_RABBITMQ = {"amqp_url", "queue_prefix"}

_services = Services(os.environ)


def _in_ci() -> bool:
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def pytest_configure() -> None:
    """Hear Ctrl-C again where a shell's background job ignores it: what tests start inherits it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> list[str]:
    """Find, or start, the services that the collected tests need, and say which."""
    if config.option.collectonly:
        return []
    wanted = {name for item in items for name in getattr(item, "fixturenames", ())}
    lines = []
    for names, kind in ((NEEDS_POSTGRES, "postgres"), (NEEDS_RABBITMQ, "rabbitmq")):
        if not names & wanted:
            continue
        try:
            lines.append(str(getattr(_services, kind)))
        except ServerMissing as error:
            lines.append(str(error))
        except ServerError as error:
            pytest.exit(str(error), returncode=pytest.ExitCode.USAGE_ERROR)
    return lines


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Stop what was started for the tests; in CI, a skipped test fails the run."""
    _services.close()
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped") if reporter else None
    if skipped and _in_ci() and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line that says what ran, and one line for each reason of a skip."""
    stats = terminalreporter.stats
    ran: Counter[str] = Counter(
        _kind(report.nodeid)
        for outcome in ("passed", "failed", "error", "xfailed", "xpassed")
        for report in stats.get(outcome, ())
        if getattr(report, "when", "call") == "call" or outcome == "error"
    )
    skipped = stats.get("skipped", [])
    parts = [f"{ran[kind]} {kind}" for kind in (*KINDS, "other") if ran[kind] or kind in KINDS[:3]]
    terminalreporter.write_line(f"ran: {', '.join(parts)}; skipped: {len(skipped)}")
    reasons = Counter((_kind(report.nodeid), _reason(report)) for report in skipped)
    for (kind, reason), count in reasons.items():
        terminalreporter.write_line(f"skipped {count} {kind}: {reason}", yellow=True)
    if skipped and _in_ci():
        terminalreporter.write_line("CI is set: a skipped test is a failure.", red=True)


def _kind(nodeid: str) -> str:
    found = re.match(r"(?:.*/)?tests/(\w+)/", nodeid)
    return found[1] if found and found[1] in KINDS else "other"


def _reason(report: pytest.TestReport) -> str:
    told = report.longrepr
    return str(told[2] if isinstance(told, tuple) else told).removeprefix("Skipped: ")


@pytest.fixture(scope="session")
def services() -> Services:
    """The services of this run; prefer `postgres_url` and `amqp_url`, which skip when missing."""
    return _services


@pytest.fixture(scope="session")
def postgres_url(services: Services) -> str:
    """A PostgreSQL where the tests may create databases."""
    try:
        return services.postgres.url
    except ServerMissing as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def amqp_url(services: Services) -> str:
    """A RabbitMQ shared by all tests: use `queue_prefix` for the names."""
    try:
        return services.rabbitmq.url
    except ServerMissing as error:
        pytest.skip(str(error))


def _execute(url: str, statement: str) -> None:
    with contextlib.closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)


def _database(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


@pytest.fixture(scope="session")
def template_database(postgres_url: str) -> Iterator[str]:
    """The name of a migrated, empty database to clone."""
    from models.migrate import migrate  # only tests that need the schema import the models

    name = f"overnight_tpl_{secrets.token_hex(4)}"
    _execute(postgres_url, f"CREATE DATABASE {name}")
    try:
        migrate(_database(postgres_url, name))
        yield name
    finally:
        _execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database_url(postgres_url: str, template_database: str) -> Iterator[str]:
    """A migrated, empty database for one test."""
    name = f"overnight_test_{secrets.token_hex(6)}"
    _execute(postgres_url, f"CREATE DATABASE {name} TEMPLATE {template_database}")
    try:
        yield _database(postgres_url, name)
    finally:
        _execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def queue_names() -> list[str]:
    """Queues to delete after the test: append each one that the test declares."""
    return []


@pytest.fixture
def queue_prefix(amqp_url: str, queue_names: list[str]) -> Iterator[str]:
    """A prefix that no other test uses.

    The queues in `queue_names` are deleted afterwards, with Dramatiq's .DQ and .XQ of each.
    """
    yield f"t{secrets.token_hex(5)}_"
    if not queue_names:
        return
    with contextlib.closing(pika.BlockingConnection(pika.URLParameters(amqp_url))) as connection:
        channel = connection.channel()
        for name in queue_names:
            for suffix in ("", ".DQ", ".XQ"):
                channel.queue_delete(name + suffix)


@pytest.fixture
def project() -> Path:
    """The root of the source tree."""
    return Path(__file__).resolve().parent.parent
