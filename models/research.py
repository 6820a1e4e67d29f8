"""Companies and the runs that refresh their data. Bulk data (prices, statements) moves by SQL."""

from typing import Self

from peewee import (
    BooleanField,
    DateField,
    DateTimeField,
    DecimalField,
    DoesNotExist,
    IntegerField,
    TextField,
    UUIDField,
)

from domain.errors import NotFound
from domain.research import JobResult, ResearchJob
from models.database import BaseModel


class Company(BaseModel):
    """A listed company. `active`: still listed; `tracked`: we want its data every night."""

    id = IntegerField(primary_key=True)
    symbol = TextField()
    name = TextField()
    exchange = TextField()
    currency = TextField()
    cik = TextField(null=True)
    active = BooleanField()
    tracked = BooleanField()
    shares_outstanding = DecimalField(null=True)
    shares_as_of = DateField(null=True)
    market_cap = DecimalField(null=True)
    market_cap_on = DateField(null=True)
    market_cap_note = TextField(null=True)
    next_earnings_date = DateField(null=True)
    last_report_date = DateField(null=True)
    added_at = DateTimeField()

    @classmethod
    def load(cls, symbol: str) -> Self:
        """The company. Raises NotFound."""
        company = cls.get_or_none(cls.symbol == symbol.strip().upper())
        if company is None:
            raise NotFound(f"no company {symbol}: `overnight companies list` shows them")
        return company


class JobRun(BaseModel):
    """One run of one research job: waiting for its turn, under way, or finished with an outcome."""

    id = UUIDField(primary_key=True)
    job = TextField()
    nightly_id = UUIDField()
    position = IntegerField()
    trigger = TextField()
    slot_id = TextField(null=True)
    created_at = DateTimeField()
    started_at = DateTimeField(null=True)
    finished_at = DateTimeField(null=True)
    outcome = TextField(null=True)
    reason = TextField(null=True)
    stalls = IntegerField()
    processed = IntegerField()
    updated = IntegerField()
    skipped = IntegerField()
    errors = IntegerField()

    class Meta:
        """The name of the outline's table."""

        table_name = "job_run"

    @classmethod
    def load(cls, run_id: str) -> Self:
        """The run. Raises NotFound."""
        try:
            return cls.get_by_id(run_id)
        except DoesNotExist:
            raise NotFound(
                f"no research run {run_id}: `overnight nightly report` shows them"
            ) from None

    @property
    def research_job(self) -> ResearchJob:
        """Which job this is a run of."""
        return ResearchJob(self.job)

    @property
    def result(self) -> JobResult:
        """What it did so far is in its items; this is what was counted at its end."""
        return JobResult(self.processed, self.updated, self.skipped, self.errors)
