"""What a provider allows: requests per second, minute and day, and whose day that is.

An unknown field, a zero or an unknown time zone is refused by name.
"""

from dataclasses import dataclass
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from domain.errors import InvalidInput


@dataclass(frozen=True)
class Budget:
    """Requests that a provider allows. None: no limit of that kind."""

    per_second: int | None = None
    per_minute: int | None = None
    per_day: int | None = None
    zone: str = "UTC"  # the provider's: its day begins at midnight there

    def __post_init__(self) -> None:
        for name in ("per_second", "per_minute", "per_day"):
            limit = getattr(self, name)
            if limit is not None and not 1 <= limit < 2**31:
                raise InvalidInput(f"budget: {name} is a number from 1, not {limit!r}")
        try:
            ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise InvalidInput(
                f"budget: zone is a name such as America/New_York, not {self.zone!r}"
            ) from None


UNLIMITED = Budget()
