"""Ids from one seedable source, so that a simulated night can be replayed exactly."""

import random
import uuid
from collections.abc import Iterator

#: The variant's two bits of a version 4 UUID, for each first digit of its fourth group.
_VARIANT = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}

_source: random.Random = random.SystemRandom()


def seed(value: int | None) -> None:
    """Make every later id a function of `value`; None returns to the system's randomness."""
    global _source
    _source = random.SystemRandom() if value is None else random.Random(value)  # noqa: S311 - replay


def new_id() -> uuid.UUID:
    """A random (version 4) UUID."""
    return uuid.UUID(int=_source.getrandbits(128), version=4)


def new_ids(count: int) -> Iterator[str]:
    """The text of `count` ids, from one draw: for rows by the thousand."""
    digits = f"{_source.getrandbits(128 * count):0{32 * count}x}" if count else ""
    for i in range(0, 32 * count, 32):
        d = digits[i : i + 32]
        yield f"{d[:8]}-{d[8:12]}-4{d[13:16]}-{_VARIANT[d[16]]}{d[17:20]}-{d[20:]}"


def jitter(low: float, high: float) -> float:
    """A number between `low` and `high`, from the same source as the ids."""
    return _source.uniform(low, high)
