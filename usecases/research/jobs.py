"""The six nightly jobs by name, as actors run them."""

from domain.research import ResearchJob
from jobs.claim import current_claim
from usecases.research.document_refresh import DocumentRefresh
from usecases.research.earnings_poll import EarningsPoll
from usecases.research.financials_refresh import FinancialsRefresh
from usecases.research.fx_refresh import FxRefresh
from usecases.research.metrics_recalc import MetricsRecalc
from usecases.research.pages import work_page
from usecases.research.policy import research_policy
from usecases.research.price_refresh import PriceRefresh
from usecases.research.runs import start_night
from usecases.research.work import Work

WORKS: dict[ResearchJob, Work] = {
    work.job: work
    for work in (
        EarningsPoll(),
        PriceRefresh(),
        FxRefresh(),
        DocumentRefresh(),
        FinancialsRefresh(),
        MetricsRecalc(),
    )
}


def run_page(job: ResearchJob, run_id: str, page: str) -> None:
    """Work one page of a run, as a claimed job."""
    work_page(run_id, int(page), WORKS[job], research_policy())


def run_night_of_slot(slot_id: str) -> None:
    """Begin the night of a slot, as a claimed job; a night that is under way refuses it."""
    with current_claim().completion():
        start_night(tuple(ResearchJob), trigger="slot", slot_id=slot_id)
