"""A bond's terms and its register of holders, and every reason why a file of them is refused.

    rows of a file → Register (checks across rows) → BondFile, or BadBondFile with all problems

Nothing is half accepted: a file is whole, or it is refused.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from fractions import Fraction

from domain.bond_fields import MAX_UNITS
from domain.errors import InvalidInput

#: How many problems a message spells out; `BadBondFile.problems` has them all.
SHOWN_PROBLEMS = 50


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong. `field` is a column's name or a JSON path; `line` counts from 1."""

    field: str
    reason: str
    line: int | None = None

    def __str__(self) -> str:
        place = ", ".join(part for part in (self.line and f"line {self.line}", self.field) if part)
        return f"{place}: {self.reason}" if place else self.reason


class BadBondFile(InvalidInput):
    """The file was refused as a whole; every problem is in `problems`, in the file's order."""

    def __init__(self, problems: list[Problem]) -> None:
        assert problems
        self.problems = problems
        super().__init__(describe(problems, SHOWN_PROBLEMS))


def describe(problems: list[Problem], limit: int) -> str:
    """The problems for people, at most `limit` of them and the count of the rest."""
    count = len(problems)
    lines = [f"{count} problem{'s' if count > 1 else ''}, nothing was imported:"]
    lines += [f"  {problem}" for problem in problems[:limit]]
    if count > limit:
        lines.append(f"  … and {count - limit} more")
    return "\n".join(lines)


@dataclass(frozen=True)
class BondTerms:
    """What was promised. `face_value_per_token` is in payment tokens."""

    id: str
    name: str
    contract: str
    token: str
    token_decimals: int
    face_value_per_token: Decimal
    maturity_date: date

    @property
    def units_per_token(self) -> Fraction:
        """What one bond token pays, in the payment token's smallest unit; may be no whole one."""
        return Fraction(self.face_value_per_token) * int(10**self.token_decimals)


@dataclass(frozen=True)
class Investor:
    """A holder; `holdings` are (token_id, balance), by token id."""

    address: str
    name: str
    email: str
    whitelisted: bool
    holdings: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class BondFile:
    """A whole and valid file; `investors` are sorted by address."""

    terms: BondTerms
    investors: tuple[Investor, ...]

    @property
    def tokens(self) -> int:
        """All bond tokens held."""
        return sum(balance for investor in self.investors for _, balance in investor.holdings)

    @property
    def total_units(self) -> int:
        """What the bond pays at maturity, in units: whole, as `Register.close` has checked."""
        return int(self.tokens * self.terms.units_per_token)

    def digest(self) -> str:
        """SHA-256 of the content: order, white space and trailing zeros do not matter."""
        terms = {**vars(self.terms)}
        terms["face_value_per_token"] = format(self.terms.face_value_per_token, "f")
        terms["maturity_date"] = self.terms.maturity_date.isoformat()
        content = hashlib.sha256(json.dumps(terms, sort_keys=True).encode())
        for who in self.investors:
            row = [who.address, who.name, who.email, who.whitelisted, who.holdings]
            content.update(b"\n" + json.dumps(row).encode())
        return content.hexdigest()


@dataclass(frozen=True)
class Details:
    """Who an investor is, as read; None is a field that was wrong and is reported already."""

    address: str | None
    whitelisted: bool | None
    name: str | None
    email: str | None


@dataclass
class Entry:
    """What the register knows of one address; `place` and `line` are where it came first."""

    details: Details
    place: str
    line: int | None
    holdings: dict[int, tuple[int, str]] = field(default_factory=dict)
    whole: bool = True  # no holding was wrong, so the sum means something


class Register:
    """Takes investors and holdings one by one, and finds what only shows across them.

    A place names something for people: "line 7" of a CSV, or "investors[3].holdings[0]".
    """

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._entries: dict[str, Entry] = {}

    def investor(self, details: Details, place: str, line: int | None = None) -> Entry | None:
        """The entry to add holdings to; None when there is no valid address."""
        if details.address is None:
            return None
        entry = self._entries.get(details.address)
        if entry is None:
            entry = self._entries[details.address] = Entry(details, place, line)
        elif entry.details != details:
            self._compare(entry, details, place, line)
        return entry

    def holding(
        self,
        entry: Entry,
        token_id: int | None,
        balance: int | None,
        place: str,
        line: int | None = None,
    ) -> None:
        """Add a holding; None is a field that was wrong and is reported already."""
        if token_id is None or balance is None:
            entry.whole = False
        if token_id is None:
            return
        if (earlier := entry.holdings.get(token_id)) is not None:
            reason = f"{entry.details.address} has token {token_id} already, at {earlier[1]}"
            self.problems.append(Problem(_field(place, "token_id", line), reason, line))
        else:
            entry.holdings[token_id] = (balance or 0, place)

    def close(self, terms: BondTerms | None) -> BondFile:
        """The whole file. Raises BadBondFile with every problem found until now."""
        if terms:
            self.problems.extend(self._amounts(terms))
        if self.problems or terms is None:
            raise BadBondFile(self.problems)
        investors = []
        for address, entry in sorted(self._entries.items()):
            holdings = sorted((token, balance) for token, (balance, _) in entry.holdings.items())
            first = entry.details
            assert first.name is not None
            assert first.email is not None
            assert first.whitelisted is not None
            investors.append(
                Investor(address, first.name, first.email, first.whitelisted, tuple(holdings))
            )
        return BondFile(terms, tuple(investors))

    def _compare(self, entry: Entry, details: Details, place: str, line: int | None) -> None:
        for name in ("whitelisted", "name", "email"):
            before, now = getattr(entry.details, name), getattr(details, name)
            if before is not None and now is not None and before != now:
                reason = f"{now!r} contradicts {before!r} of the same address at {entry.place}"
                self.problems.append(Problem(_field(place, name, line), reason, line))

    def _amounts(self, terms: BondTerms) -> Iterator[Problem]:
        rate, total = terms.units_per_token, Fraction(0)
        for address, entry in self._entries.items():
            tokens = sum(balance for balance, _ in entry.holdings.values())
            total += (units := tokens * rate)
            if not entry.whole:
                continue
            where = "balance" if entry.line else entry.place
            if units.denominator != 1:
                amount = f"{tokens} x {terms.face_value_per_token:f} {terms.token} for {address}"
                decimals = f"{terms.token}'s {terms.token_decimals} decimals"
                yield Problem(where, f"{amount} is too fine for {decimals}", entry.line)
            elif units > MAX_UNITS:
                yield Problem(
                    where, f"{address} would get more than a uint256 of units", entry.line
                )
        if total > MAX_UNITS:
            yield Problem("", "the bond pays more than a uint256 of units")


def _field(place: str, name: str, line: int | None) -> str:
    return name if line else f"{place}.{name}"
