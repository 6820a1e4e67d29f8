"""CPU time of one contestant: its processes, and its databases' backends.

On a machine that others use at the same time, seconds pass; CPU seconds are what the work costs.
"""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

import psutil
import psycopg2

_INTERVAL_S = 0.1


class CpuMeter:
    """Sums CPU seconds until `stop`; a process that ends early counts up to its last look."""

    def __init__(self, processes: Sequence[int], urls: Sequence[str]) -> None:
        self._processes = [psutil.Process(pid) for pid in processes]
        self._databases = [urlsplit(url).path.strip("/") for url in urls]
        self._server = urls[0]
        self._first: dict[int, float] = {}
        self._last: dict[int, float] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """CPU seconds since the beginning."""
        self._done.set()
        self._thread.join()
        return sum(self._last[pid] - self._first[pid] for pid in self._last)

    def _watch(self) -> None:
        with contextlib.closing(psycopg2.connect(self._server)) as connection:
            connection.autocommit = True
            cursor = connection.cursor()
            while True:
                for process in self._pids(cursor):
                    with contextlib.suppress(psutil.Error):
                        times = process.cpu_times()
                        self._last[process.pid] = times.user + times.system
                        self._first.setdefault(process.pid, self._last[process.pid])
                if self._done.wait(_INTERVAL_S):
                    return

    def _pids(self, cursor: "psycopg2.extensions.cursor") -> Iterator[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            for process in self._processes:
                yield from [process, *process.children(recursive=True)]
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = ANY(%s) AND pid <> pg_backend_pid()",
            (self._databases,),
        )
        for (pid,) in cursor.fetchall():
            with contextlib.suppress(psutil.Error):
                yield psutil.Process(pid)
