"""What a run costs: seconds, CPU seconds of this process and of its backend, memory.

    Cost(backend pid) → work → report(rows) prints one line of JSON

On a shared machine the seconds are also the neighbours'; the CPU seconds are the run's own. The
backend is asked of /proc, so they are left out where PostgreSQL runs elsewhere.
"""

import json
import os
import resource
import time
from pathlib import Path


class Cost:
    """Counts from its making to its report."""

    def __init__(self, backend_pid: int) -> None:
        self._backend = Path(f"/proc/{backend_pid}/stat")
        self._cpu, self._start = self._cpu_s(), time.perf_counter()

    def _cpu_s(self) -> float | None:
        try:
            fields = self._backend.read_text().rsplit(")", 1)[1].split()
        except FileNotFoundError:
            return None
        ticks = int(fields[11]) + int(fields[12])  # utime and stime, see proc(5)
        return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")

    def report(self, rows: int) -> None:
        """Print what it was, before the connection is closed."""
        cost = {
            "rows": rows,
            "seconds": time.perf_counter() - self._start,
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        cpu = self._cpu_s()
        if cpu is not None and self._cpu is not None:
            cost["cpu_s"] = cpu - self._cpu
        print(json.dumps(cost))
