"""The clock of a schedule: `overnight_now()` is one moment, until the scheduler moves it.

It stands still between two moves, so a replay reads the same times. It begins far in the future:
the rescue compares it with the start of the PostgreSQL server, which is real.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

#: Where schedules begin: ordinary nights, and those that calendars go wrong in.
NIGHTS = (
    datetime(2091, 6, 14, 20, 29, 50, tzinfo=UTC),  # ten seconds before 02:00 in India
    datetime(2091, 6, 14, 12, 0, tzinfo=UTC),
    datetime(2091, 1, 31, 23, 59, 40, tzinfo=UTC),  # the end of a month
    datetime(2091, 12, 31, 18, 29, 45, tzinfo=UTC),  # midnight in India at the end of a year
    datetime(2092, 2, 28, 23, 59, 30, tzinfo=UTC),  # the eve of a leap day
    datetime(2091, 3, 11, 6, 59, 30, tzinfo=UTC),  # New York goes to summer time
    datetime(2091, 11, 4, 5, 59, 30, tzinfo=UTC),  # and back
)


_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)

#: A sequence, not a setting: plans of prepared statements outlive a move, and every session sees it
#: at once. Not a row either: statements ask several times each, and looking into a table is slow.
CLOCK = (
    "CREATE SEQUENCE verify_clock",
    "SELECT setval('verify_clock', extract(epoch FROM now())::bigint * 1000000)",
    "CREATE OR REPLACE FUNCTION overnight_now() RETURNS timestamptz LANGUAGE plpgsql STABLE AS"
    " $$ BEGIN RETURN timestamptz 'epoch'"
    " + pg_sequence_last_value('verify_clock') * interval '1 microsecond'; END $$",
)


class Clock:
    """Simulated time, as the database tells it."""

    def __init__(self, execute: Callable[..., object], start: datetime) -> None:
        self._execute = execute
        self.now = start
        self.move(timedelta(0))

    def move(self, by: timedelta) -> None:
        """Forward or back."""
        self.now += by
        self._execute("SELECT setval('verify_clock', %s)", ((self.now - _EPOCH) // _MICROSECOND,))
