"""CPU that processes have used, from /proc: what others do on the machine disturbs it least.

pids → user + system seconds. Only the standard library: the peer's environment reads it too.
"""

import os
from collections.abc import Iterable
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")

#: The backends of the database that one is connected to.
BACKENDS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"


def cpu_seconds(pids: Iterable[int | None]) -> float:
    """What these processes have used so far; one that has ended counts nothing."""
    return sum(_ticks(pid) for pid in pids if pid) / _TICKS_PER_S


def _ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])
