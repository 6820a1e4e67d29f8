"""Research data, every night: six runs, one after the other, each a chain of pages.

    research_night → earnings_poll → price_refresh → fx_refresh → document_refresh
    → financials_refresh → metrics_recalc

Every page may be delivered twice and takes effect once; a run that fails does not stop the next.
"""

from domain.job_types import JobType
from domain.research import ResearchJob
from jobs.actor import actor
from usecases.research.jobs import run_night_of_slot, run_page
from usecases.research.runs import job_failed


@actor(JobType.RESEARCH_NIGHT)
def research_night(slot_id: str) -> None:
    """Write the rows of a slot's night, and begin."""
    run_night_of_slot(slot_id)


@actor(JobType.EARNINGS_POLL, on_failed=job_failed)
def earnings_poll(run_id: str, page: str) -> None:
    """When does each company report next?"""
    run_page(ResearchJob.EARNINGS_POLL, run_id, page)


@actor(JobType.PRICE_REFRESH, on_failed=job_failed)
def price_refresh(run_id: str, page: str) -> None:
    """Prices of companies without the last closed session."""
    run_page(ResearchJob.PRICE_REFRESH, run_id, page)


@actor(JobType.FX_REFRESH, on_failed=job_failed)
def fx_refresh(run_id: str, page: str) -> None:
    """Exchange rates since the newest known day."""
    run_page(ResearchJob.FX_REFRESH, run_id, page)


@actor(JobType.DOCUMENT_REFRESH, on_failed=job_failed)
def document_refresh(run_id: str, page: str) -> None:
    """Filings and transcripts that we do not have."""
    run_page(ResearchJob.DOCUMENT_REFRESH, run_id, page)


@actor(JobType.FINANCIALS_REFRESH, on_failed=job_failed)
def financials_refresh(run_id: str, page: str) -> None:
    """Statements of companies that reported, and of all others once a week."""
    run_page(ResearchJob.FINANCIALS_REFRESH, run_id, page)


@actor(JobType.METRICS_RECALC, on_failed=job_failed)
def metrics_recalc(run_id: str, page: str) -> None:
    """The derived metrics of companies whose inputs changed."""
    run_page(ResearchJob.METRICS_RECALC, run_id, page)
