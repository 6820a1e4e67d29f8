"""The servers that we start ourselves: they lose nothing, and nothing of them stays behind."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pika
import pika.exceptions
import psutil
import psycopg2
import psycopg2.extensions
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from servers.discover import private_postgres, private_rabbitmq
from servers.errors import ServerError, ServerMissing
from servers.postgres import PrivatePostgres
from servers.processes import is_alive, wait_until, working_in
from servers.rabbitmq import PrivateRabbitMQ

pytestmark = pytest.mark.crash

GONE_S = 10.0  # two seconds on an idle machine

APP = """
import sys, time
from pathlib import Path
from servers.discover import private_postgres, private_rabbitmq
make = {"postgres": private_postgres, "rabbitmq": private_rabbitmq}[sys.argv[1]]
server = make(Path(sys.argv[2])).start()
print(server.port, server._server.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[PrivatePostgres]:
    """A PostgreSQL that is not started yet."""
    try:
        server = private_postgres(tmp_path / "with space")
    except ServerMissing as error:
        pytest.skip(str(error))
    yield server
    server.delete()


@pytest.fixture
def rabbitmq(tmp_path: Path) -> Iterator[PrivateRabbitMQ]:
    """A RabbitMQ that is not started yet."""
    try:
        server = private_rabbitmq(tmp_path / "with space")
    except ServerMissing as error:
        pytest.skip(str(error))
    yield server
    server.delete()


@contextlib.contextmanager
def app_with(kind: str, folder: Path, project: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Another program that owns a server, and the pid of that server."""
    command = [sys.executable, "-c", APP, kind, str(folder)]
    app = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=project, process_group=0)
    with app:
        assert app.stdout is not None
        _, pid = app.stdout.readline().split()
        try:
            yield app, int(pid)
        finally:
            app.kill()


@contextlib.contextmanager
def postgres_cursor(server: PrivatePostgres) -> Iterator[psycopg2.extensions.cursor]:
    connection = psycopg2.connect(server.url())
    try:
        with connection, connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()


@contextlib.contextmanager
def amqp_channel(server: PrivateRabbitMQ) -> Iterator[BlockingChannel]:
    connection = pika.BlockingConnection(pika.URLParameters(server.url))
    try:
        yield connection.channel()
    finally:
        with contextlib.suppress(pika.exceptions.AMQPError):
            connection.close()


def insert(server: PrivatePostgres) -> None:
    with postgres_cursor(server) as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS paid (leg int)")
        cursor.execute("INSERT INTO paid VALUES (1)")


def count(server: PrivatePostgres) -> int:
    with postgres_cursor(server) as cursor:
        cursor.execute("SELECT count(*) FROM paid")
        (rows,) = cursor.fetchone() or (0,)
        return int(rows)


def test_postgres_keeps_committed_rows_through_every_kind_of_stop(
    postgres: PrivatePostgres,
) -> None:
    postgres.start()
    url = postgres.url()
    insert(postgres)
    postgres.kill9()
    postgres.restart()
    assert (count(postgres), postgres.url()) == (1, url)
    insert(postgres)
    postgres.immediate_stop()
    postgres.restart()
    assert count(postgres) == 2
    postgres.stop()
    assert working_in(postgres.data, "postgres") == []


def test_a_second_user_of_the_folder_attaches_and_does_not_stop_the_server(
    postgres: PrivatePostgres,
) -> None:
    postgres.start()
    insert(postgres)
    with PrivatePostgres(postgres.folder) as other:
        assert (other.port, other.owned) == (postgres.port, False)
    assert count(postgres) == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_postgres_ends_with_its_app(
    postgres: PrivatePostgres, project: Path, number: signal.Signals
) -> None:
    with app_with("postgres", postgres.folder, project) as (app, pid):
        os.killpg(app.pid, number)  # to the whole group, as Ctrl-C in a terminal
        wait_until(lambda: not is_alive(pid), GONE_S, "the end of PostgreSQL")
        postgres.start()  # at once, in the same folder
        insert(postgres)
        assert postgres.owned


def test_postgres_ends_when_its_watchdog_is_killed(
    postgres: PrivatePostgres, project: Path
) -> None:
    with app_with("postgres", postgres.folder, project) as (_, pid):
        os.kill(psutil.Process(pid).ppid(), signal.SIGKILL)
        wait_until(lambda: not is_alive(pid), GONE_S, "the end of PostgreSQL")


def test_a_start_right_after_the_owners_death_never_attaches_to_the_dying_server(
    postgres: PrivatePostgres, project: Path
) -> None:
    with app_with("postgres", postgres.folder, project) as (app, pid):
        app.kill()
        app.wait()
        postgres.start()
        assert postgres.owned
        insert(postgres)
        assert not is_alive(pid)
        assert count(postgres) == 1


@pytest.mark.parametrize("reused", ["dead", "zombie", "living"])
def test_a_stale_pid_file_does_not_stop_a_start(postgres: PrivatePostgres, reused: str) -> None:
    postgres.start()
    insert(postgres)
    pid_file = postgres.data / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    postgres.kill9()
    child = subprocess.Popen(["sleep", "60" if reused == "living" else "0"])
    with child:
        if reused == "dead":
            child.wait()
        elif reused == "zombie":
            zombie = lambda: not is_alive(child.pid)  # noqa: E731
            wait_until(zombie, 5, "a zombie")
        pid_file.write_text("\n".join([str(child.pid), *lines[1:]]) + "\n")
        postgres.restart()
        assert count(postgres) == 1
        if reused == "living":
            assert is_alive(child.pid)
        child.kill()


def test_a_taken_port_is_an_error_only_when_it_was_asked_for(
    postgres: PrivatePostgres, tmp_path: Path
) -> None:
    postgres.start()
    other = PrivatePostgres(tmp_path / "other", port=postgres.port)
    with pytest.raises(ServerError):
        other.start()
    other.delete()
    insert(postgres)


def test_rabbitmq_keeps_confirmed_messages_through_kill_and_restart(
    rabbitmq: PrivateRabbitMQ,
) -> None:
    rabbitmq.start()
    url = rabbitmq.url
    with amqp_channel(rabbitmq) as channel:
        channel.confirm_delivery()
        channel.queue_declare("kept", durable=True)
        for _ in range(100):
            channel.basic_publish("", "kept", b"x", pika.BasicProperties(delivery_mode=2))
        rabbitmq.kill9()
    rabbitmq.restart()
    assert rabbitmq.url == url
    with amqp_channel(rabbitmq) as channel:
        kept = channel.queue_declare("kept", passive=True)
        assert kept.method.message_count == 100


def test_rabbitmq_ends_with_its_app_and_leaves_no_epmd(
    rabbitmq: PrivateRabbitMQ, project: Path
) -> None:
    with app_with("rabbitmq", rabbitmq.folder, project) as (app, pid):
        with pytest.raises(ServerError, match="belongs to process"):
            rabbitmq.start()
        group = {one.pid for one in psutil.process_iter() if _group_of(one.pid) == pid}
        assert len(group) >= 2  # the broker and its epmd
        app.kill()
        started = time.monotonic()
        wait_until(lambda: not any(map(is_alive, group)), GONE_S, "the end of RabbitMQ")
        assert time.monotonic() - started < GONE_S
    rabbitmq.start()


def _group_of(pid: int) -> int:
    with contextlib.suppress(ProcessLookupError):
        return os.getpgid(pid)
    return 0
