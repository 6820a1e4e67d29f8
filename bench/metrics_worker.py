"""The metrics of all dirty companies, recalculated by this process alone; prints what it cost.

python -m bench.metrics_worker URL BATCH_COMPANIES
"""

import sys

from bench.cost import Cost
from models.database import connect_to, fetch
from usecases.research.metrics import recalc_dirty


def main() -> None:
    """See the module's docstring."""
    url, batch = sys.argv[1:]
    connect_to(url)
    [(pid,)] = fetch("SELECT pg_backend_pid()")
    cost = Cost(pid)
    cost.report(sum(each.written for done in recalc_dirty(int(batch)) for each in done))


if __name__ == "__main__":
    main()
