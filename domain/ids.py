"""Ids from one seedable source, so that a simulated night can be replayed exactly."""

import random
import uuid

_source: random.Random = random.SystemRandom()


def seed(value: int | None) -> None:
    """Make every later id a function of `value`; None returns to the system's randomness."""
    global _source
    _source = random.SystemRandom() if value is None else random.Random(value)  # noqa: S311 - replay


def new_id() -> uuid.UUID:
    """A random (version 4) UUID."""
    return uuid.UUID(int=_source.getrandbits(128), version=4)


def jitter(low: float, high: float) -> float:
    """A number between `low` and `high`, from the same source as the ids."""
    return _source.uniform(low, high)
