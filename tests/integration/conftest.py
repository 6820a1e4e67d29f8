"""A connected database, a registry of handlers for one test, and threads with a connection each."""

import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import jobs.actor
from domain.job_types import JobType, use_overrides
from jobs.actor import Handler
from jobs.failure import OnFailed
from jobs.runner import stopping
from models.database import connect_to, execute, fetch, reconnect
from settings import load_settings

#: What the shell of whoever runs the tests may have set.
_OF_THE_SHELL = (
    "AMQP_URL", "ENVIRONMENT", "MOCK_CHAIN_URL", "MOCK_DATA_PATH", "MOCK_FAULTS",
    "PROVIDER_BUDGETS",
)  # fmt: skip


class Proxy:
    """Stands before a server: loses one answer, hangs, or is down, when told to."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.lose_answer_to: bytes | None = None
        self.lost = threading.Event()
        self.down = False
        self.flowing = threading.Event()  # cleared: the server seems to hang
        self.flowing.set()
        self.refused = threading.Semaphore(0)
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def _start(self, run: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=run, args=args)
        thread.start()
        self._threads.append(thread)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.down:
                client.close()
                self.refused.release()
                continue
            server = socket.create_connection(self._server)
            self._sockets += [client, server]
            swallow = threading.Event()
            self._start(self._pump, client, server, swallow, True)
            self._start(self._pump, server, client, swallow, False)

    def _pump(
        self, source: socket.socket, sink: socket.socket, swallow: threading.Event, asks: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                marker = self.lose_answer_to
                if asks and marker is not None and marker in data:
                    self.lose_answer_to = None
                    swallow.set()
                if not asks and swallow.is_set():
                    break  # the server has done it, and nobody hears of it
                if not asks:
                    self.flowing.wait()
                sink.sendall(data)
            if not asks and swallow.is_set():
                self.lost.set()
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """Down: every connection ends, and every new one is refused."""
        self.flowing.set()
        self.down = True
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.cut()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(15)
        for each in self._sockets:
            each.close()


@pytest.fixture
def database(database_url: str) -> Iterator[str]:
    """The program's database points at this test's own clone."""
    connect_to(database_url)
    stopping.clear()  # a worker that ended in this process has set it
    yield database_url
    reconnect()


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    """invoke("bonds", "list", code=0): a command here, as if in a process and folder of its own."""
    from cli.main import app  # only tests of commands need all that it imports

    for name in _OF_THE_SHELL:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OVERNIGHT_HOME", str(tmp_path))
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level

    def run(*arguments: str, code: int = 0) -> Result:
        load_settings.cache_clear()
        result = CliRunner().invoke(app, list(arguments))
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    yield run
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)
    load_settings.cache_clear()
    use_overrides({})
    stopping.clear()
    reconnect()


@pytest.fixture
def handle(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """handle(job_type, run, on_failed=None) binds what runs in this test, and nothing else does."""
    registry: dict[JobType, Handler] = {}
    monkeypatch.setattr(jobs.actor, "_handlers", registry)

    def bind(
        job_type: JobType, run: Callable[..., None], on_failed: OnFailed | None = None
    ) -> None:
        registry[job_type] = Handler(job_type, run, on_failed)

    return bind


@pytest.fixture
def effects(database: str) -> Callable[[], list[str]]:
    """A table `effect (what text)` for actors to write to; the call reads what was committed."""
    execute("CREATE TABLE effect (what text)")
    return lambda: [what for (what,) in fetch("SELECT what FROM effect ORDER BY what")]


@pytest.fixture
def spawn(database: str) -> Iterator[Callable[[Callable[[], Any]], "Future[Any]"]]:
    """Run a function in another thread, on a connection of its own."""

    def run(work: Callable[[], Any]) -> Any:
        try:
            return work()
        finally:
            reconnect()

    with ThreadPoolExecutor(8) as pool:
        yield lambda work: pool.submit(run, work)


@pytest.fixture
def make_proxy() -> Iterator[Callable[[str, int], "Proxy"]]:
    """make_proxy(host, port): a proxy in front of that server, closed after the test."""
    proxies: list[Proxy] = []

    def make(host: str, port: int) -> Proxy:
        proxies.append(Proxy(host, port))
        return proxies[-1]

    yield make
    for proxy in proxies:
        proxy.close()
