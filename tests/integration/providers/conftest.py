"""A database whose clock the test sets, and providers that answer as they are told."""

from collections.abc import Callable
from datetime import datetime

import pytest

from models.database import execute


@pytest.fixture
def clock(database: str) -> Callable[[datetime], None]:
    """Set the time that overnight_now() tells; it stands still."""

    def set_to(at: datetime) -> None:
        execute(
            "CREATE OR REPLACE FUNCTION overnight_now() RETURNS timestamptz LANGUAGE sql STABLE"
            f" AS $$ SELECT timestamptz '{at.isoformat()}' $$"
        )

    return set_to
