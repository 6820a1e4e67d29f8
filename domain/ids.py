"""Ids from one seedable source, so that a simulated night can be replayed exactly."""

import random
import uuid
from collections.abc import Iterator

#: The 48 bits of a UUID's last group.
_LAST_GROUP = (1 << 48) - 1

_source: random.Random = random.SystemRandom()


def seed(value: int | None) -> None:
    """Make every later id a function of `value`; None returns to the system's randomness."""
    global _source
    _source = random.SystemRandom() if value is None else random.Random(value)  # noqa: S311 - replay


def new_id() -> uuid.UUID:
    """A random (version 4) UUID."""
    return uuid.UUID(int=_source.getrandbits(128), version=4)


def new_ids(count: int) -> Iterator[str]:
    """The text of `count` ids that follow each other from a random one: for rows by the thousand.

    Ids that stand together in an index touch few of its pages; each random one among a million
    touches a page of its own, which PostgreSQL then writes whole into its log.
    """
    first = str(new_id())
    head, number = first[:24], int(first[24:], 16)
    for i in range(number, number + count):
        yield f"{head}{i & _LAST_GROUP:012x}"


def jitter(low: float, high: float) -> float:
    """A number between `low` and `high`, from the same source as the ids."""
    return _source.uniform(low, high)
