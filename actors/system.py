"""The system's own jobs: what keeps the queue itself in order."""

from domain.job_types import JobType
from jobs.actor import actor
from usecases.job_operations import prune_nightly


@actor(JobType.JOBS_PRUNE)
def jobs_prune(slot_id: str) -> None:
    """Forget finished jobs of closed runs; comes again until nothing old is left."""
    prune_nightly()
