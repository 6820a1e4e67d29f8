"""A laboratory for the tests of the simulation itself: one database for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import structlog

from verify.lab import Lab

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def lab(postgres_url: str) -> Iterator[Lab]:
    """An open laboratory; it leaves this process as it was, but for the database it points at."""
    logging = structlog.get_config()
    with Lab.open(postgres_url) as opened:
        yield opened
    structlog.configure(**logging)
