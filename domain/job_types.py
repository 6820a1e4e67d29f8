"""The job types and their fixed properties, known to publishers and workers alike.

A service can publish a job from here without loading the code that will run it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum, StrEnum, unique

from dramatiq import Message

from domain.errors import InvalidInput
from domain.ids import new_id


class Service(StrEnum):
    """Who a job belongs to: the unit of pausing, isolation and statistics."""

    BONDS = "bonds"
    MATURITY = "maturity"
    NOTIFICATIONS = "notifications"
    MARKET = "market"
    SYSTEM = "system"


class JobStatus(StrEnum):
    """pending → processing → completed | retrying → … | failed, or cancelled. See docs/jobs.md."""

    PENDING = "pending"
    PROCESSING = "processing"
    RETRYING = "retrying"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINISHED = (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED)


class Way(StrEnum):
    """How a first delivery takes a job; what is delivered again always takes way A.

    A: by a committed token. B: by the row lock of one transaction. C: B together with what else
    waits in this worker; for jobs that only write a little, and never for payouts.
    """

    CLAIM = "A"
    LOCK = "B"
    BATCH = "C"


@dataclass(frozen=True)
class JobSpec:
    """What is fixed about a job type.

    `params` are the names of its payload, ids and ISO dates only. `queue` is the logical queue.
    A `money` job is never failed by deaths of workers alone: it is retried slowly, and says so.
    Any other job may kill `deaths_max` workers before it is believed to be what kills them.
    `from_inbox` types may be asked for by other programs; steps inside a payout may not.
    """

    service: Service
    queue: str
    params: tuple[str, ...]
    way: Way
    priority: int = 3
    max_retries: int = 8
    backoff_min: timedelta = timedelta(seconds=1)
    backoff_max: timedelta = timedelta(minutes=10)
    money: bool = False
    deaths_max: int = 5
    from_inbox: bool = False

    def payload(self, args: tuple[str, ...], kwargs: Mapping[str, object]) -> dict[str, str]:
        """Bind arguments to `params`; raises InvalidInput that names what is missing or unknown."""
        bound: dict[str, object] = dict(zip(self.params, args, strict=False))
        if len(args) > len(self.params) or set(kwargs) & set(bound):
            raise InvalidInput(f"too many arguments: expected {', '.join(self.params) or 'none'}")
        bound.update(kwargs)
        if set(bound) != set(self.params):
            missing = sorted(set(self.params) - set(bound))
            unknown = sorted(set(bound) - set(self.params))
            raise InvalidInput(f"payload: missing {missing}, unknown {unknown}")
        return {name: str(value) for name, value in bound.items()}


def _maturity(*params: str, priority: int = 4) -> JobSpec:
    return JobSpec(Service.MATURITY, "maturity", params, Way.CLAIM, priority, money=True)


def _market(*params: str) -> JobSpec:
    # Many deaths: after three, a page works one company at a time and finds the one that kills.
    return JobSpec(
        Service.MARKET, "market", params, Way.CLAIM, priority=2, max_retries=4, deaths_max=12
    )


@unique  # a name on the wire that came twice would be one and the same job type
class JobType(Enum):
    """Every kind of job; the value is its name on the wire and in the database."""

    MATURITY_PAYMENT = "MaturityPayment"
    MATURITY_LIQUIDITY_CHECK = "MaturityLiquidityCheck"
    MATURITY_TOKEN_BURN = "MaturityTokenBurn"  # noqa: S105 - a job's name
    MATURITY_PLT_TRANSFER = "MaturityPLTTransfer"
    MATURITY_RECORD = "MaturityRecord"
    NOTIFICATION_FANOUT = "NotificationFanoutProcessor"
    NOTIFICATION_INDIVIDUAL = "NotificationIndividualProcessor"
    PAYOUT_RECONCILE = "PayoutReconcile"
    JOBS_PRUNE = "JobsPrune"
    RESEARCH_NIGHT = "ResearchNight"
    EARNINGS_POLL = "EarningsPoll"
    PRICE_REFRESH = "PriceRefresh"
    FX_REFRESH = "FxRefresh"
    DOCUMENT_REFRESH = "DocumentRefresh"
    FINANCIALS_REFRESH = "FinancialsRefresh"
    METRICS_RECALC = "MetricsRecalc"

    @property
    def spec(self) -> JobSpec:
        """The fixed properties of this type."""
        return _SPECS[self]

    def message(self, *args: str, parked: bool = False, **kwargs: str) -> Message[None]:
        """A message for `enqueue`, alone or as a step of a Dramatiq `pipeline`.

        Args are bound to the spec's `params`. A `parked` step waits, once the step before it is
        done, until somebody releases it (the step after a chain phase: see docs/payouts.md).
        """
        return self.message_of(self.spec.payload(args, kwargs), parked=parked)

    def message_of(
        self, payload: Mapping[str, object], *, parked: bool = False, message_id: str | None = None
    ) -> Message[None]:
        """The same from a payload; `message_id` only to rebuild a message that had one."""
        return Message(
            queue_name=self.spec.queue,
            actor_name=self.value,
            args=(),
            kwargs=self.spec.payload((), payload),
            options={"parked": True} if parked else {},
            message_id=message_id or str(new_id()),
            message_timestamp=0,  # the row knows when; a message is only a wake-up call
        )


@dataclass(frozen=True)
class Override:
    """What an installation may change about a job type; None leaves what the spec says."""

    max_retries: int | None = None
    backoff_min: timedelta | None = None
    backoff_max: timedelta | None = None

    def of(self, spec: JobSpec) -> JobSpec:
        """The spec with what this changes."""
        return replace(spec, **{k: v for k, v in vars(self).items() if v is not None})


_original: dict[JobType, JobSpec] = {}


def use_overrides(overrides: Mapping[JobType, Override]) -> None:
    """Change the specs of this process, for composition roots; earlier overrides end.

    Raises:
        InvalidInput: a backoff would begin above its end; the message names the field.
    """
    _SPECS.update(_original)
    _original.clear()
    for job_type, override in overrides.items():
        check_override(job_type, override)
    for job_type, override in overrides.items():
        _original[job_type] = job_type.spec
        _SPECS[job_type] = override.of(job_type.spec)


def check_override(job_type: JobType, override: Override) -> None:
    """Raises InvalidInput where a backoff would begin above its end."""
    spec = override.of(_original.get(job_type, job_type.spec))
    if spec.backoff_min > spec.backoff_max:
        field = "backoff_max_s" if override.backoff_max is not None else "backoff_min_s"
        low, high = spec.backoff_min.total_seconds(), spec.backoff_max.total_seconds()
        raise InvalidInput(
            f"{job_type.value}.{field}: the backoff would begin at {low:g} s and end at {high:g} s"
        )


_SPECS: dict[JobType, JobSpec] = {
    JobType.MATURITY_PAYMENT: _maturity("run_id"),
    JobType.MATURITY_LIQUIDITY_CHECK: _maturity("run_id"),
    JobType.MATURITY_TOKEN_BURN: _maturity("page_id"),
    JobType.MATURITY_PLT_TRANSFER: _maturity("page_id", priority=5),  # debts first
    JobType.MATURITY_RECORD: _maturity("page_id"),
    JobType.NOTIFICATION_FANOUT: JobSpec(
        Service.NOTIFICATIONS, "notifications", ("kind", "subject_id"), Way.LOCK, priority=2
    ),
    JobType.NOTIFICATION_INDIVIDUAL: JobSpec(
        Service.NOTIFICATIONS, "notifications", ("kind", "subject_id"), Way.BATCH, priority=2
    ),
    JobType.PAYOUT_RECONCILE: JobSpec(
        Service.MATURITY, "maturity", ("slot_id",), Way.CLAIM, priority=2, from_inbox=True
    ),
    JobType.JOBS_PRUNE: JobSpec(Service.SYSTEM, "system", ("slot_id",), Way.CLAIM, priority=1),
    JobType.RESEARCH_NIGHT: _market("slot_id"),
    JobType.EARNINGS_POLL: _market("run_id", "page"),
    JobType.PRICE_REFRESH: _market("run_id", "page"),
    JobType.FX_REFRESH: _market("run_id", "page"),
    JobType.DOCUMENT_REFRESH: _market("run_id", "page"),
    JobType.FINANCIALS_REFRESH: _market("run_id", "page"),
    JobType.METRICS_RECALC: _market("run_id", "page"),
}
