"""Who runs: the identity of processes, told apart from zombies and from reused process ids."""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from servers.errors import ServerError

SAME_START_S = 2.0  # clocks of one boot agree better than this; a reused pid never does
POLL_S = 0.02


def is_alive(pid: int) -> bool:
    """Whether `pid` runs. A zombie does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def write_identity(path: Path, pid: int) -> None:
    """Store who `pid` is now, so that `still_runs` can tell it from a later process."""
    identity = {"pid": pid, "started": psutil.Process(pid).create_time()}
    draft = path.with_name(path.name + ".new")
    draft.write_text(json.dumps(identity))
    draft.replace(path)


def still_runs(path: Path) -> int | None:
    """The pid stored at `path` if that very process runs, else None."""
    try:
        identity = json.loads(path.read_text())
        process = psutil.Process(int(identity["pid"]))
        same = abs(process.create_time() - float(identity["started"])) < SAME_START_S
        return process.pid if same and is_alive(process.pid) else None
    except (OSError, ValueError, KeyError, TypeError, psutil.NoSuchProcess):
        return None


def working_in(folder: Path, name: str) -> list[int]:
    """Living processes called `name…` with `folder` as their working directory."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.name().startswith(name) and Path(process.cwd()) == folder:
                found.append(process.pid)
    return [pid for pid in found if is_alive(pid)]


def wait_until(happened: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Return as soon as `happened()`; raises ServerError naming `what` after `timeout_s`."""
    end = time.monotonic() + timeout_s
    while not happened():
        if time.monotonic() > end:
            raise ServerError(f"{what}: not within {timeout_s:g} s")
        time.sleep(POLL_S)


@contextlib.contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Let one process at a time start, look at or stop the server of a folder."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
