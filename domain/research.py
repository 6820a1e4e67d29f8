"""The words of research data: its jobs and their order, outcomes, metrics and reasons."""

from dataclasses import dataclass
from enum import StrEnum


class ResearchJob(StrEnum):
    """The nightly jobs, in the order of the night: metrics last, from everything before them."""

    EARNINGS_POLL = "earnings_poll"
    PRICE_REFRESH = "price_refresh"
    FX_REFRESH = "fx_refresh"
    DOCUMENT_REFRESH = "document_refresh"
    FINANCIALS_REFRESH = "financials_refresh"
    METRICS_RECALC = "metrics_recalc"


class RunOutcome(StrEnum):
    """How a run ended. `partial`: something was left out, and the run says what and why."""

    COMPLETED = "completed"
    PARTIAL = "partial"
    FAILED = "failed"
    REFUSED = "refused"  # another run of the same job was going on


class ItemStatus(StrEnum):
    """What became of one company (or document, or currency) in a run."""

    WAITING = "waiting"
    UPDATED = "updated"
    SKIPPED = "skipped"
    ERROR = "error"


class MetricName(StrEnum):
    """The thirteen derived metrics; all are fractions or ratios. See docs/metrics.md."""

    YOY_REVENUE_GROWTH = "yoy_revenue_growth"
    QOQ_REVENUE_GROWTH = "qoq_revenue_growth"
    GROWTH_ACCELERATION = "growth_acceleration"
    GROSS_MARGIN = "gross_margin"
    OPERATING_MARGIN = "operating_margin"
    NET_MARGIN = "net_margin"
    OCF_TO_REVENUE = "ocf_to_revenue"
    FCF_TO_REVENUE = "fcf_to_revenue"
    REVENUE_MINUS_NET_DEBT_TO_REVENUE = "revenue_minus_net_debt_to_revenue"
    PE_RATIO = "pe_ratio"
    MOMENTUM_1M = "momentum_1m"
    MOMENTUM_3M = "momentum_3m"
    MOMENTUM_6M = "momentum_6m"


@dataclass(frozen=True)
class JobResult:
    """What a run did: `processed` is the sum of the other three."""

    processed: int
    updated: int
    skipped: int
    errors: int
