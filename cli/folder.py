"""The lock on the data folder: one process at a time runs jobs there without a broker outside."""

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from domain.errors import Rejected


@contextmanager
def sole_worker(folder: Path) -> Iterator[None]:
    """Hold the folder; the kernel lets go of it when this process ends, however it ends.

    Raises Rejected that names the other process.
    """
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    path = folder / "worker.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = path.read_text().strip() or "unknown"
            raise Rejected(
                f"another overnight process ({holder}) runs jobs in {folder.absolute()}: wait for"
                " it or stop it, or set OVERNIGHT_HOME to another folder"
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"pid {os.getpid()}, {' '.join(sys.argv[1:2])}".encode())
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)
