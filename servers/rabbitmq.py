"""A private RabbitMQ: any user, private ports, own cookie, gone when its owner is gone.

    start -> epmd + server under the watchdog -> url

Queues and durable messages stay in the folder between starts. Unlike PrivatePostgres it does not
attach to a running one: a folder has one owner at a time, and a second start is an error.
"""

import contextlib
import os
import secrets
import shutil
import signal
from pathlib import Path
from types import TracebackType

import pika
import pika.exceptions

from servers import processes
from servers.errors import ServerError
from servers.ports import free_port, is_free
from servers.rabbitmq_home import Home, find_home
from servers.watchdog import WatchedServer

READY_TIMEOUT_S = 90.0  # 5-10 s on two idle cores, longer on busy ones
STOP_GRACE_S = 6.0  # confirmed durable messages survive the SIGKILL that follows
START_ATTEMPTS = 3  # somebody else may take one of the chosen ports first
NODE = "overnight@localhost"  # stable: the data folder belongs to a node name
# epmd first and in the foreground, so that it is in the server's process group and ends with it.
SCRIPT = '"$1" -address 127.0.0.1 & exec "$2"'


class PrivateRabbitMQ:
    """One RabbitMQ of our own, with everything it needs in `folder`.

    `home` says which programs to run (default: the installed ones).
    """

    def __init__(
        self, folder: Path | str, port: int | None = None, home: Home | None = None
    ) -> None:
        self.folder = Path(folder).absolute()
        self.log = self.folder / "rabbitmq.log"
        self.port = port or 0
        self._fixed_port = port is not None
        self._home = home
        self._server: WatchedServer | None = None
        self._owner_file = self.folder / "rabbitmq.owner"
        self._group_file = self.folder / "rabbitmq.server"

    def __enter__(self) -> "PrivateRabbitMQ":
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The address of the default virtual host."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    def start(self) -> "PrivateRabbitMQ":
        """Start the broker; returns when it accepts connections.

        Raises ServerError if another living process owns the folder, or with the end of its log.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with processes.only_one(self.folder / "rabbitmq.lock"):
            self._clear_stale()
            home = self._home or find_home()
            for attempt in range(1, START_ATTEMPTS + 1):
                try:
                    self._launch(home)
                except ServerError:
                    if self._fixed_port or attempt == START_ATTEMPTS:
                        raise
                else:
                    break
        return self

    def stop(self) -> None:
        """Stop what this object started. Harmless when it already ended."""
        if self._server is not None:
            self._server.stop()
        self._server = None

    def kill9(self) -> None:
        """SIGKILL to the broker, its helpers and its epmd, like a crash of the machine."""
        if self._server is None or not self._server.is_running():
            raise ServerError(f"No RabbitMQ runs in {self.folder}")
        self._server.kill_group()
        self._server = None

    def restart(self) -> "PrivateRabbitMQ":
        """Stop if running, then start on the same port with the same data."""
        self.stop()
        return self.start()

    def delete(self) -> None:
        """Stop, and remove the data, the cookie and the log."""
        self.stop()
        shutil.rmtree(self.folder / "rabbitmq", ignore_errors=True)
        for path in self.folder.glob("rabbitmq.*"):
            path.unlink()

    def _clear_stale(self) -> None:
        """Wait for, or end, what a killed owner left; refuse a folder whose owner lives."""
        group = processes.still_runs(self._group_file)
        if group is None:
            return
        owner = processes.still_runs(self._owner_file)
        if owner is not None:
            raise ServerError(f"RabbitMQ in {self.folder} already belongs to process {owner}")
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        processes.wait_until(lambda: not processes.is_alive(group), 20, f"the end of {group}")

    def _launch(self, home: Home) -> None:
        if not self.port or (not self._fixed_port and not is_free(self.port)):
            self.port = free_port()
        environment = self._environment(home)
        processes.write_identity(self._owner_file, os.getpid())
        epmd = home.erlang_bin / "epmd"
        self._server = WatchedServer.start(
            ["/bin/sh", "-c", SCRIPT, "sh", str(epmd), str(home.server)],
            self.log,
            [signal.SIGTERM],
            STOP_GRACE_S,
            environment,
        )
        try:
            processes.write_identity(self._group_file, self._server.pid)
            processes.wait_until(
                self._answers, READY_TIMEOUT_S, f"RabbitMQ on port {self.port}, see {self.log}"
            )
        except BaseException:
            self.stop()
            raise

    def _environment(self, home: Home) -> dict[str, str]:
        """The whole environment of the broker: nothing of the system's RabbitMQ is read."""
        inside = self.folder / "rabbitmq"
        for name in ("home", "mnesia", "logs", "generated"):
            (inside / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        cookie = inside / "home" / ".erlang.cookie"
        if not cookie.exists():
            cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o400)
        config = f"listeners.tcp.local = 127.0.0.1:{self.port}\n"
        (inside / "rabbitmq.conf").write_text(config)
        (inside / "advanced.config").write_text("[].\n")
        (inside / "enabled_plugins").write_text("[].\n")
        erl_args = "-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false"
        environment = {
            "HOME": str(inside / "home"),
            "PATH": f"{home.erlang_bin}:{os.environ.get('PATH', '')}:/usr/bin:/bin",
            "LANG": os.environ.get("LANG", "C.UTF-8"),
            "ERL_EPMD_PORT": str(free_port()),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RUNNING_UNDER_SYSTEMD": "1",  # the script then becomes the server: one process less
            "RABBITMQ_NODENAME": NODE,
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(inside / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(inside / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(inside / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(inside / "mnesia"),
            "RABBITMQ_LOG_BASE": str(inside / "logs"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": str(inside / "pid"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(inside / "generated"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": erl_args,
        }
        if home.libraries:
            environment["LD_LIBRARY_PATH"] = home.libraries
        return environment

    def _answers(self) -> bool:
        if self._server is not None and not self._server.is_running():
            raise ServerError(f"RabbitMQ in {self.folder} ended:\n{self._log_end()}")
        if is_free(self.port):
            return False  # quicker than a refused connection, and quiet in pika's log
        try:
            pika.BlockingConnection(pika.URLParameters(self.url)).close()
        except (pika.exceptions.AMQPError, OSError):
            return False
        return True

    def _log_end(self) -> str:
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
        return "(no log)"
