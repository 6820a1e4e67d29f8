"""Settings: one frozen object from the environment; only composition roots read it.

All missing or bad variables are listed at once, and secrets are never printed.
"""

import json
from datetime import timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from domain.budgets import Budget
from domain.errors import InvalidInput
from domain.job_types import JobType, Override, check_override


class JobOverride(BaseModel):
    """What JOB_OVERRIDES may say of one job type."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_retries: int | None = Field(None, ge=0, le=1_000)
    backoff_min_s: float | None = Field(None, gt=0, le=86_400)
    backoff_max_s: float | None = Field(None, gt=0, le=86_400)

    @property
    def override(self) -> Override:
        """The same as the domain knows it."""
        low, high = self.backoff_min_s, self.backoff_max_s
        return Override(
            self.max_retries,
            None if low is None else timedelta(seconds=low),
            None if high is None else timedelta(seconds=high),
        )


class ProviderBudget(BaseModel):
    """What PROVIDER_BUDGETS says of one provider. Unset: no limit of that kind."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    per_second: int | None = None
    per_minute: int | None = None
    per_day: int | None = None
    zone: str = "UTC"

    @property
    def budget(self) -> Budget:
        """The same as the domain knows it. Raises InvalidInput."""
        return Budget(self.per_second, self.per_minute, self.per_day, self.zone)


class Settings(BaseSettings):
    """Every variable of the environment that the program reads. Names are the field names."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    environment: Literal["development", "test", "production"] = "development"
    environment_id: str = "local"  # a wallet is bound to it; see docs/payouts.md
    database_url: SecretStr | None = None  # unset: the embedded default, in overnight_home
    amqp_url: SecretStr | None = None  # unset: the in-process broker
    queue_prefix: str = Field("", pattern=r"^[a-zA-Z0-9_]*$")
    overnight_home: Path = Path(".overnight")
    worker_threads: int = Field(4, ge=1, le=64)
    relay_window: int = Field(1_000, ge=1, le=100_000)  # per queue: small keeps priorities sharp
    job_retention_days: int = Field(30, ge=1)  # of completed and cancelled jobs
    # As JSON, by job type; for example of MaturityPayment: see docs/operations-jobs.md.
    job_overrides: Annotated[dict[str, JobOverride], NoDecode] = Field(default_factory=dict)

    mock_chain_url: SecretStr | None = None  # unset: "<database>_chain" beside the database
    wallet_key: SecretStr = SecretStr("development-wallet")
    payment_token: str = "PLT"  # noqa: S105 - a token's symbol

    payout_page_legs: int = Field(500, ge=1, le=10_000)
    legs_per_transaction: int = Field(100, ge=1, le=1_000)
    fee_cap_units: int = Field(1_000, ge=0)  # per item: a token id burned, or a payment
    fee_limit_units: int | None = Field(None, ge=0)  # the same after replacements; unset: 4 times
    four_eyes_above: Decimal | None = Field(None, ge=0)  # tokens: larger runs need a second person
    max_unsettled_nonces: int = Field(64, ge=1)
    loop_interval_ms: int = Field(250, ge=5)
    rebroadcast_after_s: float = Field(5.0, gt=0)
    replace_after_s: float = Field(60.0, gt=0)  # a stuck transaction is offered 25 % more

    mock_data_path: Path | None = None  # a golden copy; unset: the project's own sample data
    mock_api_delay_ms: int = Field(0, ge=0, le=60_000)  # before each answer of the mocks
    mock_faults: str = ""  # as JSON: what goes wrong in the mocks; see docs/providers.md
    documents_path: Path | None = None  # filings and transcripts; unset: in overnight_home
    document_max_mb: int = Field(50, ge=1, le=2_000)
    document_max_s: float = Field(120.0, gt=0, le=3_600)  # one download, first to last byte
    # As JSON, by provider: {"mock-primary": {"per_day": 25, "zone": "America/New_York"}}
    provider_budgets: Annotated[dict[str, ProviderBudget], NoDecode] = Field(default_factory=dict)
    market_concurrency: int = Field(8, ge=1, le=64)  # requests at once, of one process
    alpha_vantage_key: SecretStr | None = None
    contact: str | None = None  # the SEC wants a name and an address in each User-Agent

    log_format: Literal["console", "json"] = "console"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @field_validator("job_overrides", "provider_budgets", mode="before")
    @classmethod
    def _read_json(cls, given: Any) -> Any:
        if not isinstance(given, str):
            return given
        try:
            return json.loads(given) if given.strip() else {}
        except ValueError as error:
            raise ValueError(f"not JSON: {error}") from None

    @field_validator("job_overrides")
    @classmethod
    def _fit_the_job_types(cls, given: dict[str, JobOverride]) -> dict[str, JobOverride]:
        known = {job_type.value: job_type for job_type in JobType}
        wrong = []
        for name, override in given.items():
            if name not in known:
                wrong.append(f"unknown job type {name!r}; known are {', '.join(known)}")
                continue
            try:
                check_override(known[name], override.override)
            except InvalidInput as error:
                wrong.append(str(error))
        if wrong:
            raise ValueError("; ".join(wrong))
        return given

    @field_validator("provider_budgets")
    @classmethod
    def _can_be_kept(cls, given: dict[str, ProviderBudget]) -> dict[str, ProviderBudget]:
        wrong = []
        for name, each in given.items():
            try:
                _ = each.budget
            except InvalidInput as error:
                wrong.append(f"{name}: {error}")
        if wrong:
            raise ValueError("; ".join(wrong))
        return given

    @property
    def budgets(self) -> dict[str, Budget]:
        """PROVIDER_BUDGETS, as the domain knows them."""
        return {name: each.budget for name, each in self.provider_budgets.items()}

    @property
    def documents_folder(self) -> Path:
        """DOCUMENTS_PATH, or the folder in OVERNIGHT_HOME."""
        return self.documents_path or self.overnight_home / "documents"

    @property
    def overrides(self) -> dict[JobType, Override]:
        """JOB_OVERRIDES, for `domain.job_types.use_overrides`."""
        return {JobType(name): each.override for name, each in self.job_overrides.items()}


@cache
def load_settings() -> Settings:
    """The settings of this process. Raises InvalidInput that lists every bad variable."""
    try:
        settings = Settings()
    except ValidationError as error:
        lines = [
            f"  {'.'.join([name.upper(), *map(str, within)])}: {item['msg']}"
            for item in error.errors(include_input=False)
            for name, *within in [[str(part) for part in item["loc"]]]
        ]
        raise InvalidInput("bad settings:\n" + "\n".join(lines)) from None
    if settings.environment == "production":
        missing = [n for n in ("database_url", "amqp_url") if getattr(settings, n) is None]
        if missing:
            names = ", ".join(name.upper() for name in missing)
            raise InvalidInput(f"ENVIRONMENT=production needs {names}")
    return settings
