"""How this process works research jobs, handed in once by its composition root."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from usecases.research.calls import Calls
from usecases.research.download import DownloadLimits


@dataclass(frozen=True)
class ResearchPolicy:
    """Sizes and places. A page ends well before the queue's time limit for a job."""

    documents_folder: Path
    concurrency: int = 8  # calls at once, of one job
    page_s: float = 45.0
    limits: DownloadLimits = field(default_factory=DownloadLimits)
    #: Who makes the calls, and what a page measures itself by: a simulation has its own.
    calls: Callable[[Callable[[Any], Any], int], Calls[Any, Any]] = Calls
    clock: Callable[[], float] = time.monotonic


_policy: ResearchPolicy | None = None


def use_research_policy(value: ResearchPolicy) -> None:
    """Set the policy of this process; a test sets it again for its next case."""
    global _policy
    _policy = value


def research_policy() -> ResearchPolicy:
    """The policy. Raises RuntimeError when the composition root set none."""
    if _policy is None:
        raise RuntimeError("no research policy: the composition root must call it first")
    return _policy
