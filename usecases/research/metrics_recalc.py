"""Recalculate the metrics of companies whose inputs changed, in batches, each one commit."""

from collections.abc import Mapping, Sequence
from typing import Any

from domain.research import ResearchJob
from models.database import execute
from usecases.research.metrics import BATCH_COMPANIES, recalc
from usecases.research.work import CompanyWork, ItemResult, unchanged, updated

_OPEN = """
INSERT INTO job_run_item (run_id, item_key, position)
SELECT %s, company_id::text, row_number() OVER (ORDER BY company_id)
FROM research_state WHERE inputs_revision > metrics_revision
"""


class MetricsRecalc(CompanyWork):
    """All metrics, set-based; asks nobody."""

    job = ResearchJob.METRICS_RECALC
    batch_size = BATCH_COMPANIES

    def open_items(self, run_id: str) -> None:
        """Companies whose inputs changed since their metrics were computed."""
        execute(_OPEN, (run_id,))

    def calls(self, items: int) -> tuple[int, int | None]:
        """None."""
        return 0, 0

    def asks(self, prepared: Any) -> bool:
        """Nobody."""
        return False

    def load(self, keys: Sequence[str], prepared: Any) -> Mapping[str, int]:
        """Their ids."""
        return {key: int(key) for key in keys}

    def ask(self, task: int) -> None:
        """Nobody."""

    def record(self, task: int, answer: Any) -> ItemResult:
        """One alone, after its batch failed."""
        return self.record_many([task])[str(task)]

    def record_many(self, tasks: Sequence[int]) -> Mapping[str, ItemResult]:
        """A batch."""
        done = {each.company_id: each for each in recalc(tasks)}
        return {str(task): _result(done.get(task)) for task in tasks}


def _result(done: Any) -> ItemResult:
    if done is None:
        return unchanged("another run has calculated it")
    if not done.written and not done.removed:
        return unchanged("every metric is as before")
    return updated(f"{done.written} written, {done.removed} removed")
