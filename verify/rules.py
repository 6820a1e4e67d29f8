"""Rules in SQL, asked together: one round trip while all of them hold.

rules (words, query of what breaks them) → which are broken? → the first rows of those
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

Query = Callable[..., list[tuple[Any, ...]]]
Rules = tuple[tuple[str, str], ...]


def broken_rules(query: Query, rules: Iterable[tuple[str, str]]) -> list[str]:
    """Every rule that does not hold, with the first rows that break it."""
    asked = tuple(rules)
    return [
        f"{asked[number][0]}: {query(asked[number][1] + ' LIMIT 3', {})}"
        for (number,) in query(_which(asked), {})
    ]


@lru_cache(maxsize=64)
def _which(rules: Rules) -> str:
    """The numbers of those that some row breaks."""
    parts = (f"SELECT {number} WHERE EXISTS ({sql})" for number, (_, sql) in enumerate(rules))
    return "SELECT * FROM (" + " UNION ALL ".join(parts) + ") AS which (number) ORDER BY 1"
