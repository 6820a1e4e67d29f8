"""Keep a server no longer than the process that started it.

    app -> (pipe) -> watchdog -> server

The watchdog is a small process of its own, in a session of its own: Ctrl-C in a terminal does not
reach it, and it survives a SIGKILL of the app just long enough to stop the server. It stops the
server when its pipe closes or its parent changes (a forked child of the app may hold the pipe
open), and the kernel stops the server if the watchdog itself is killed (Linux).

Run as a script it imports nothing but the standard library, so that it starts in milliseconds.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

POLL_S = 0.2  # how late the death of a parent may be noticed when the pipe stays open
REAP_S = 2.0
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


class WatchedServer:
    """A server process under a watchdog; made by `start`, ended by `stop` or by our own death."""

    def __init__(self, watchdog: "subprocess.Popen[bytes]", pid: int, patience_s: float) -> None:
        self._watchdog = watchdog
        self._patience_s = patience_s
        self.pid = pid  # also the id of its process group

    @classmethod
    def start(
        cls,
        command: Sequence[str],
        log: Path,
        stop_signals: Sequence[int],
        grace_s: float,
        environment: Mapping[str, str] | None = None,
        user: tuple[int, int] | None = None,
    ) -> "WatchedServer":
        """Start `command` with its output in `log`.

        To stop it, `stop_signals` are sent in order, `grace_s` seconds apart, then SIGKILL to its
        group. `user` is (uid, gid) to drop to. Raises OSError if the command can't be run.
        """
        plan = {
            "command": list(command),
            "stop_signals": [int(one) for one in stop_signals],
            "grace_s": grace_s,
            "user": user,
            "parent": os.getpid(),
        }
        with open(log, "ab", opener=lambda path, flags: os.open(path, flags, 0o600)) as output:
            watchdog = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__, json.dumps(plan)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env=dict(environment) if environment is not None else None,
                cwd="/",
                start_new_session=True,
            )
        assert watchdog.stdout is not None
        answer = watchdog.stdout.readline().decode(errors="replace").strip()
        watchdog.stdout.close()
        server = cls(watchdog, int(answer) if answer.isdigit() else 0, grace_s * len(stop_signals))
        if not server.pid:
            server.stop()
            raise OSError(f"{command[0]} did not start: {answer or 'see ' + str(log)}")
        return server

    def is_running(self) -> bool:
        """Whether the server still runs (the watchdog ends with it)."""
        return self._watchdog.poll() is None

    def stop(self) -> None:
        """Stop the server and wait for its end. Harmless when it already ended."""
        assert self._watchdog.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._watchdog.stdin.close()
        self._watchdog.wait(timeout=self._patience_s + 10)

    def kill_group(self) -> None:
        """SIGKILL to the server and its whole process group, and wait for its end."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.stop()


class _Asked:
    """Set by SIGTERM: whoever stops the watchdog means the server."""

    stop = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.stop = True


def _watch(plan: dict[str, object]) -> int:
    _prctl(PR_SET_CHILD_SUBREAPER, 1)  # orphans of the server come to us, not to an idle init
    asked = _Asked()
    signal.signal(signal.SIGTERM, asked)
    # Handlers, not SIG_IGN: an ignored signal would stay ignored in the server after exec.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    command, user = plan["command"], plan["user"]
    assert isinstance(command, list)
    uid, gid = user if isinstance(user, list) else (None, None)
    first_signal, *_ = stop_signals = list(plan["stop_signals"])  # type: ignore[call-overload]
    try:
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            start_new_session=True,
            user=uid,
            group=gid,
            extra_groups=[] if uid is not None else None,
            # Fires at the end of the *thread* that forked: this process has only one.
            preexec_fn=lambda: _prctl(PR_SET_PDEATHSIG, first_signal),
        )
    except (OSError, subprocess.SubprocessError) as error:
        print(error, flush=True)
        return 1
    print(server.pid, flush=True)
    os.close(1)
    while server.poll() is None:
        readable, _, _ = select.select([0], [], [], POLL_S)
        closed = bool(readable) and not os.read(0, 1)
        if closed or asked.stop or os.getppid() != plan["parent"]:
            _end(server, stop_signals, float(str(plan["grace_s"])))
        _reap(all_but=server.pid)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(server.pid, signal.SIGKILL)  # what it left behind in its group (epmd)
    end = time.monotonic() + REAP_S
    while _reap() and time.monotonic() < end:
        time.sleep(0.01)
    return 0


def _end(server: "subprocess.Popen[bytes]", stop_signals: list[int], grace_s: float) -> None:
    for number in stop_signals:
        server.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(timeout=grace_s)
            return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def _reap(all_but: int = 0) -> bool:
    """Take the status of dead orphans, so that no zombie stays; False when no child is left."""
    with contextlib.suppress(ChildProcessError):
        while dead := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if dead.si_pid == all_but:
                return True  # subprocess takes this one itself
            os.waitpid(dead.si_pid, 0)
        return True
    return False


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    code = _watch(json.loads(sys.argv[1]))
    os._exit(code)  # stdout is closed already: the usual exit would complain about it
