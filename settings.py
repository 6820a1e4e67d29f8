"""Settings: one frozen object from the environment; only composition roots read it.

All missing or bad variables are listed at once, and secrets are never printed.
"""

from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from domain.errors import InvalidInput


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

    mock_chain_url: SecretStr | None = None  # unset: "<database>_chain" beside the database
    wallet_key: SecretStr = SecretStr("development-wallet")
    payment_token: str = "PLT"  # noqa: S105 - a token's symbol

    payout_page_legs: int = Field(500, ge=1, le=10_000)
    legs_per_transaction: int = Field(100, ge=1, le=1_000)
    fee_cap_units: int = Field(1_000, ge=0)  # per leg and transaction
    max_unsettled_nonces: int = Field(64, ge=1)
    loop_interval_ms: int = Field(250, ge=5)
    rebroadcast_after_s: float = Field(5.0, gt=0)

    log_format: Literal["console", "json"] = "console"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"


@cache
def load_settings() -> Settings:
    """The settings of this process. Raises InvalidInput that lists every bad variable."""
    try:
        settings = Settings()
    except ValidationError as error:
        lines = [
            f"  {'.'.join(str(part) for part in item['loc']).upper()}: {item['msg']}"
            for item in error.errors(include_input=False)
        ]
        raise InvalidInput("bad settings:\n" + "\n".join(lines)) from None
    if settings.environment == "production":
        missing = [n for n in ("database_url", "amqp_url") if getattr(settings, n) is None]
        if missing:
            names = ", ".join(name.upper() for name in missing)
            raise InvalidInput(f"ENVIRONMENT=production needs {names}")
    return settings
