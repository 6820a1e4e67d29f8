"""The lane's proxy does what networks do, and nothing else: bytes arrive whole and in order."""

import contextlib
import hashlib
import secrets
import socket
import threading
from collections.abc import Iterator

import pytest

from verify.real.proxy import Proxy

WAIT_S = 10.0
SILENT_S = 0.3


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends back what it gets."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                while data := connection.recv(65_536):
                    connection.sendall(data)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(echo: int) -> Iterator[Proxy]:
    with Proxy(lambda: echo) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port), WAIT_S) as client:
        client.sendall(b"hello")
        assert client.recv(5) == b"hello"
        yield client


def receive(client: socket.socket, count: int) -> bytes:
    got = b""
    while len(got) < count and (data := client.recv(65_536)):
        got += data
    return got


def assert_silent(client: socket.socket) -> None:
    client.settimeout(SILENT_S)
    with pytest.raises(TimeoutError):
        client.recv(1)
    client.settimeout(WAIT_S)


@pytest.mark.crash
@pytest.mark.parametrize("delay_s", [0.0, 0.01])
def test_bytes_arrive_whole_and_in_order(
    proxy: Proxy, client: socket.socket, delay_s: float
) -> None:
    data = secrets.token_bytes(8_000_000)
    proxy.delay(delay_s)
    sender = threading.Thread(target=client.sendall, args=(data[: len(data) // 2],))
    sender.start()
    sender.join(WAIT_S)
    proxy.delay(0)  # what is late stays before what comes now
    sender = threading.Thread(target=client.sendall, args=(data[len(data) // 2 :],))
    sender.start()
    assert hashlib.sha256(receive(client, len(data))).digest() == hashlib.sha256(data).digest()
    sender.join(WAIT_S)


@pytest.mark.crash
def test_a_cut_resets_every_connection_and_welcomes_new_ones(
    proxy: Proxy, client: socket.socket
) -> None:
    assert proxy.cut() == 1
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    with socket.create_connection(("127.0.0.1", proxy.port), WAIT_S) as again:
        again.sendall(b"again")
        assert receive(again, 5) == b"again"


@pytest.mark.crash
def test_a_black_hole_swallows_also_new_connections_until_it_ends(
    proxy: Proxy, client: socket.socket
) -> None:
    proxy.swallow()
    client.sendall(b"lost?")
    assert_silent(client)
    with socket.create_connection(("127.0.0.1", proxy.port), WAIT_S) as late:
        late.sendall(b"late")
        assert_silent(late)
        proxy.forward()
        assert receive(late, 4) == b"late"
    assert receive(client, 5) == b"lost?"


@pytest.mark.crash
def test_answers_can_be_lost_though_the_request_was_done(echo: int) -> None:
    heard = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                while data := connection.recv(100):
                    connection.sendall(b"done")
                    if b"commit" in data:
                        heard.set()

        with Proxy(lambda: int(server.getsockname()[1])) as proxy:
            threading.Thread(target=serve, daemon=True).start()
            with socket.create_connection(("127.0.0.1", proxy.port), WAIT_S) as client:
                client.sendall(b"begin")
                assert receive(client, 4) == b"done"
                proxy.swallow("answers")
                client.sendall(b"commit")
                assert heard.wait(WAIT_S)
                assert_silent(client)
                proxy.cut()
                with pytest.raises(ConnectionResetError):
                    client.recv(1)


@pytest.mark.crash
def test_a_server_that_is_away_ends_the_connection(echo: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        closed = int(nobody.getsockname()[1])
    with (
        Proxy(lambda: closed) as proxy,
        socket.create_connection(("127.0.0.1", proxy.port), WAIT_S) as client,
        contextlib.suppress(ConnectionResetError),
    ):
        assert client.recv(1) == b""
