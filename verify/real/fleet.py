"""A fleet: real `overnight` processes under one environment, to be killed and frozen in any order.

    start → (killed | frozen | ended by itself) → the supervisor starts it again, as systemd would

Every process has a watchdog (servers.watchdog), so none outlives its owner, whatever kills that.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servers.watchdog import WatchedServer
from settings import Settings

#: How a process is asked to end, and how long it may take: a worker finishes its jobs.
STOP_GRACE_S = 10.0

#: How soon a process that ended by itself is started again.
SUPERVISION_S = 0.25

COMMAND_TIMEOUT_S = 120.0
ROOT = Path(__file__).resolve().parents[2]
OVERNIGHT = (sys.executable, "-m", "cli.main")
_PERIODIQ = "import sys; from periodiq import entrypoint; sys.exit(entrypoint())"

#: What a member may be, and the command that it runs.
ROLES = {
    "worker": (*OVERNIGHT, "worker"),
    "relay": (*OVERNIGHT, "relay"),
    "scheduler": (sys.executable, "-c", _PERIODIQ, "schedules"),
}


class CommandFailed(RuntimeError):
    """An `overnight` command did not end with 0; the message has its output."""


@dataclass
class Member:
    """One process and its role."""

    name: str
    role: str
    server: WatchedServer
    log: Path
    frozen: bool = False

    @property
    def pid(self) -> int:
        """Of the process itself, not of its watchdog."""
        return self.server.pid


@dataclass(frozen=True)
class Ended:
    """A process that ended though nobody killed it, and all that it logged."""

    role: str
    log: str

    @property
    def is_refusal(self) -> bool:
        """Whether it was not even ready: it found no database, said so, and is started again."""
        return "worker ready" not in self.log and "error: the database" in self.log


class Fleet:
    """Starts processes, and commands, with `environment` added to what is no setting of ours."""

    def __init__(
        self, environment: Mapping[str, str], logs: Path, given_up: threading.Event
    ) -> None:
        # The caller's own settings are not ours.
        ours = {k: v for k, v in os.environ.items() if k.lower() not in Settings.model_fields}
        path = os.pathsep.join(filter(None, [str(ROOT), ours.get("PYTHONPATH")]))
        self._environment = {**ours, **environment, "PYTHONPATH": path}
        self._logs = logs
        self._given_up = given_up
        self._lock = threading.RLock()
        self._members: dict[str, Member] = {}
        self._started = 0
        self._ending = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor", daemon=True)
        self.ended: list[Ended] = []  # by themselves
        self._supervisor.start()

    def members(self, role: str) -> list[Member]:
        """Those of a role that run and are not frozen."""
        with self._lock:
            return [m for m in self._members.values() if m.role == role and not m.frozen]

    def start(self, name: str, role: str) -> Member:
        """Start a process under a name."""
        with self._lock:
            self._started += 1
            log = self._logs / f"{self._started:04d}-{name}.log"
            server = WatchedServer.start(
                ROLES[role], log, [signal.SIGTERM], STOP_GRACE_S, self._environment
            )
            self._members[name] = Member(name, role, server, log)
            return self._members[name]

    def kill(self, member: Member) -> float:
        """SIGKILL, and start its successor; returns when (UNIX time) it was killed."""
        with self._lock:
            at = time.time()
            member.server.kill_group()
            if not self._ending.is_set():
                self.start(member.name, member.role)
        return at

    def freeze(self, member: Member) -> float:
        """SIGSTOP; returns when."""
        with self._lock:
            member.frozen = True
            at = time.time()
            os.kill(member.pid, signal.SIGSTOP)
        return at

    def thaw(self, member: Member) -> None:
        """SIGCONT."""
        with self._lock:
            member.frozen = False
            with contextlib.suppress(ProcessLookupError):
                os.kill(member.pid, signal.SIGCONT)

    def run(self, *arguments: str) -> str:
        """Run one command to its end; its output. Exit code 3 (somebody is held) is no failure.

        Raises CommandFailed, also when the lane is given up.
        """
        process = subprocess.Popen(  # noqa: S603 - our own command
            [*OVERNIGHT, *arguments],
            env=self._environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        give_up_at = time.monotonic() + COMMAND_TIMEOUT_S
        while True:
            try:
                out, error = process.communicate(timeout=1)
                break
            except subprocess.TimeoutExpired:
                if self._given_up.is_set() or time.monotonic() > give_up_at:
                    process.kill()
        if process.returncode not in (0, 3):
            raise CommandFailed(f"{' '.join(arguments)}: {process.returncode}\n{out}\n{error}")
        return out

    def read(self, *arguments: str) -> Any:
        """Run a command with --json; what it printed."""
        return json.loads(self.run(*arguments, "--json"))

    def stop(self, *, kill: bool = False) -> None:
        """End all: SIGTERM first, so that workers finish their jobs, or SIGKILL at once."""
        self._ending.set()
        self._supervisor.join()
        with self._lock:
            members, self._members = list(self._members.values()), {}
        for member in members:
            if member.frozen:
                self.thaw(member)
        if kill:
            for member in members:
                member.server.kill_group()
            return
        for member in members:  # all at once, then wait for each
            with contextlib.suppress(ProcessLookupError):
                os.kill(member.pid, signal.SIGTERM)
        for member in members:
            member.server.stop()

    def _supervise(self) -> None:
        while not self._ending.wait(SUPERVISION_S):
            with self._lock:
                for member in list(self._members.values()):
                    if not member.server.is_running():
                        self.ended.append(Ended(member.role, _text_of(member.log)))
                        self.start(member.name, member.role)


def _text_of(log: Path) -> str:
    with contextlib.suppress(OSError):
        return log.read_text(errors="replace")
    return ""
