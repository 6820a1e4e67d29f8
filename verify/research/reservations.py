"""Every reservation of a provider's budget, as the database saw it: a trigger keeps them all.

    provider_budget changes → verify_reservation → limits of each window, counted anew

The program keeps only the open windows; their rules are followed here by other means.
"""

from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

from domain.budgets import Budget

#: What the laboratory adds to its database.
RESERVATIONS = """
CREATE TABLE verify_reservation (
    number bigint GENERATED ALWAYS AS IDENTITY, provider text NOT NULL, at timestamptz NOT NULL,
    day_start timestamptz NOT NULL, day_used integer NOT NULL);
CREATE FUNCTION verify_reserved() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO verify_reservation (provider, at, day_start, day_used)
    VALUES (NEW.provider, overnight_now(), NEW.day_start, NEW.day_used);
    RETURN NULL;
END $$;
CREATE TRIGGER verify_reserved AFTER INSERT OR UPDATE ON provider_budget
    FOR EACH ROW EXECUTE FUNCTION verify_reserved();
"""

_ALL = """
SELECT provider, at, day_start, day_used FROM verify_reservation ORDER BY number
"""


def broken_budgets(
    query: Callable[..., list[tuple[Any, ...]]], budgets: Mapping[str, Budget]
) -> list[str]:
    """Limits that were exceeded, and reservations that were given back."""
    found = []
    by_provider: dict[str, list[tuple[datetime, datetime, int]]] = {}
    for provider, at, day_start, used in query(_ALL):
        by_provider.setdefault(provider, []).append((at, day_start, used))
    for provider, rows in by_provider.items():
        budget, times = budgets[provider], [at for at, _, _ in rows]
        for (_, day, used), (_, next_day, next_used) in pairwise(rows):
            if day == next_day and next_used <= used:
                found.append(f"a reservation was given back: {provider}, {used} → {next_used}")
        for limit, window in (
            (budget.per_second, timedelta(seconds=1)), (budget.per_minute, timedelta(minutes=1)),
        ):  # fmt: skip
            if limit is not None and (most := _most_in_a_window(times, window)) > limit:
                found.append(f"a budget was exceeded: {provider}, {most} of {limit} in {window}")
        if budget.per_day is not None:
            by_day: dict[date, int] = {}
            local = date.min
            for at in times:  # a clock that goes back begins no day again
                local = max(local, at.astimezone(ZoneInfo(budget.zone)).date())
                by_day[local] = by_day.get(local, 0) + 1
            if (most := max(by_day.values())) > budget.per_day:
                found.append(f"a budget was exceeded: {provider}, {most} of {budget.per_day} a day")
    return found


def _most_in_a_window(times: list[datetime], window: timedelta) -> int:
    """A window begins with the first request after the one before it has ended."""
    began, used, most = times[0], 0, 0
    for at in times:
        if at >= began + window:
            began, used = at, 0
        used += 1
        most = max(most, used)
    return most
