"""Budgets of providers: a request is reserved in PostgreSQL before it is made.

    reserve → None: go | NotYet: the instant at which one may try again
    block   → Retry-After, an exhausted day, a refused key: nobody asks before then

One statement on one row takes from second, minute and day, or from none. It is committed before
the call, so a crash refunds nothing; all processes share it and restarts keep it. Nothing sleeps.
A second and a minute begin with their first request; a day at midnight where the provider is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from domain.budgets import UNLIMITED, Budget
from models.database import db, execute, fetch

#: Uses up only what is free in every window; returns no row, and takes nothing, otherwise. Where
#: two wait for the row, the second sees what the first has taken, whatever the second's clock says.
_RESERVE = """
INSERT INTO provider_budget AS had
    (provider, second_start, second_used, minute_start, minute_used, day_start, day_used)
SELECT %(provider)s, at, %(calls)s, at, %(calls)s, date_trunc('day', at, %(zone)s), %(calls)s
FROM overnight_now() AS at
WHERE NOT EXISTS (
    SELECT FROM provider_block WHERE provider = %(provider)s AND blocked_until > at)
ON CONFLICT (provider) DO UPDATE SET
    second_used = %(calls)s + CASE WHEN {second_open} THEN had.second_used ELSE 0 END,
    second_start = CASE WHEN {second_open} THEN had.second_start ELSE excluded.second_start END,
    minute_used = %(calls)s + CASE WHEN {minute_open} THEN had.minute_used ELSE 0 END,
    minute_start = CASE WHEN {minute_open} THEN had.minute_start ELSE excluded.minute_start END,
    day_used = %(calls)s + CASE WHEN {day_open} THEN had.day_used ELSE 0 END,
    day_start = greatest(had.day_start, excluded.day_start)
WHERE coalesce(NOT {second_open} OR had.second_used + %(calls)s <= %(per_second)s, true)
  AND coalesce(NOT {minute_open} OR had.minute_used + %(minute_room)s <= %(per_minute)s, true)
  AND coalesce(NOT {day_open} OR had.day_used + %(day_room)s <= %(per_day)s, true)
RETURNING 1
""".format(
    second_open="excluded.second_start < had.second_start + interval '1 second'",
    minute_open="excluded.minute_start < had.minute_start + interval '1 minute'",
    day_open="excluded.day_start <= had.day_start",
)

#: Every reason to wait, with its end.
_WAITS = """
SELECT at, until, what FROM overnight_now() AS at CROSS JOIN LATERAL (
    SELECT blocked_until, reason FROM provider_block WHERE provider = %(provider)s
    UNION ALL
    SELECT ends, what FROM provider_budget had, LATERAL (VALUES
        (had.second_start + interval '1 second', 'the second''s budget is used up',
            had.second_used + %(calls)s > %(per_second)s),
        (had.minute_start + interval '1 minute', 'the minute''s budget is used up',
            had.minute_used + %(minute_room)s > %(per_minute)s),
        ((date_trunc('day', greatest(at, had.day_start) AT TIME ZONE %(zone)s) + interval '1 day')
            AT TIME ZONE %(zone)s, 'the day''s budget is used up',
            had.day_used + %(day_room)s > %(per_day)s
            AND had.day_start >= date_trunc('day', at, %(zone)s))
    ) window_of (ends, what, is_full)
    WHERE had.provider = %(provider)s AND is_full
) waits (until, what) WHERE until > at ORDER BY until DESC
"""

_BLOCK = """
INSERT INTO provider_block AS had (provider, blocked_until, reason)
SELECT %(provider)s, until, %(reason)s FROM ({until}) AS found (until)
ON CONFLICT (provider) DO UPDATE SET blocked_until = excluded.blocked_until,
    reason = excluded.reason
WHERE had.blocked_until < excluded.blocked_until
RETURNING blocked_until
"""

_BLOCK_FOR = _BLOCK.format(until="SELECT overnight_now() + %(lasts)s")

_BLOCK_DAY = _BLOCK.format(
    until="SELECT (date_trunc('day', overnight_now() AT TIME ZONE %(zone)s) + interval '1 day')"
    " AT TIME ZONE %(zone)s"
)


@dataclass(frozen=True)
class NotYet:
    """A reservation that was refused: when to try again, and what one waits for."""

    at: datetime
    wait: timedelta  # from the database's now
    reason: str


@dataclass(frozen=True)
class Usage:
    """What a provider has used of its open day, and until when it is blocked."""

    provider: str
    day_start: datetime | None
    day_used: int
    blocked_until: datetime | None
    block_reason: str | None


def reserve(
    provider: str, budget: Budget = UNLIMITED, *, calls: int = 1, room_for: int = 1
) -> NotYet | None:
    """Take `calls` requests out of the budget, or nothing; None means taken.

    `room_for`: refuse unless minute and day have room for so many, as a task of several requests
    should not begin that could not end. Committed at once: never call it in a transaction.
    """
    if db.in_transaction():
        raise RuntimeError("reserve commits at once: call it outside a transaction")
    if not 1 <= calls <= min(budget.per_second or calls, budget.per_day or calls):
        raise ValueError(f"{calls} requests at once do not fit the budget of {provider}")
    wanted = max(calls, room_for)
    params = {
        "provider": provider,
        "calls": calls,
        "minute_room": min(wanted, budget.per_minute or wanted),
        "day_room": min(wanted, budget.per_day or wanted),
        "per_second": budget.per_second,
        "per_minute": budget.per_minute,
        "per_day": budget.per_day,
        "zone": budget.zone,
    }
    if fetch(_RESERVE, params):
        return None
    waits = fetch(_WAITS, params)
    if not waits:  # what was full a moment ago has opened
        [(now,)] = fetch("SELECT overnight_now()")
        return NotYet(now, timedelta(0), f"{provider}: a window has just opened")
    now, until, what = waits[0]
    return NotYet(until, until - now, f"{provider}: {what}")


def block(provider: str, lasts: timedelta, reason: str) -> bool:
    """Nobody asks the provider for so long. A longer block stays; True when this one counts."""
    return bool(fetch(_BLOCK_FOR, {"provider": provider, "lasts": lasts, "reason": reason}))


def block_for_the_day(provider: str, budget: Budget, reason: str) -> bool:
    """Nobody asks the provider before its next day. True when it was not blocked so long."""
    params = {"provider": provider, "zone": budget.zone, "reason": reason}
    return bool(fetch(_BLOCK_DAY, params))


def unblock(provider: str) -> bool:
    """Ask the provider again: its key was changed, its plan was raised. True if it was blocked."""
    return execute("DELETE FROM provider_block WHERE provider = %s", (provider,)) > 0


def usage() -> Sequence[Usage]:
    """Every provider that was asked or is blocked, by name."""
    rows = fetch(
        "SELECT provider, day_start, coalesce(day_used, 0), blocked_until, reason"
        " FROM provider_budget FULL JOIN (SELECT * FROM provider_block"
        " WHERE blocked_until > overnight_now()) blocked USING (provider) ORDER BY provider"
    )
    return [Usage(*row) for row in rows]
