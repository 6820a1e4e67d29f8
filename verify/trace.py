"""The trace of a schedule: what happened, in order, in words that a replay repeats exactly.

A hash of it is what two runs of one seed must agree on. Nothing of this machine may be in it.
"""

import hashlib
from collections import Counter


class Trace:
    """Lines, and how often each fault was injected."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.faults: Counter[str] = Counter()

    def add(self, line: str) -> None:
        """One event."""
        self.lines.append(line)

    def fault(self, kind: str, line: str) -> None:
        """One fault, counted where it strikes."""
        self.faults[kind] += 1
        self.lines.append(f"! {kind}: {line}")

    @property
    def hash(self) -> str:
        """SHA-256 over all lines, the first 16 digits."""
        return hashlib.sha256("\n".join(self.lines).encode()).hexdigest()[:16]
