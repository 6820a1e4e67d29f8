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
from typing import Protocol

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
        content = ContentDigest(self.terms)
        for who in self.investors:
            content.add(who)
        return content.hexdigest()


@dataclass(frozen=True)
class Details:
    """Who an investor is, as read; None is a field that was wrong and is reported already."""

    address: str | None
    whitelisted: bool | None
    name: str | None
    email: str | None


class HolderSink(Protocol):
    """Takes what a reader reads: a Register, or one that keeps the rows elsewhere."""

    problems: list[Problem]

    def investor(self, details: Details, place: str, line: int | None = None) -> "Entry | None":
        """See `Register.investor`."""

    def holding(
        self,
        entry: "Entry",
        token_id: int | None,
        balance: int | None,
        place: str,
        line: int | None = None,
    ) -> None:
        """See `Register.holding`."""


@dataclass
class Entry:
    """What the register knows of one address; `place` and `line` are where it came first."""

    details: Details
    place: str
    line: int | None
    holdings: dict[int, tuple[int, str]] = field(default_factory=dict)
    whole: bool = True  # no holding was wrong, so the sum means something


class Amounts:
    """Checks what each holder would get, and the bond in all."""

    def __init__(self, terms: BondTerms) -> None:
        self._terms = terms
        self._total = Fraction(0)

    def holder(
        self, address: str, tokens: int, whole: bool, place: str, line: int | None
    ) -> Problem | None:
        """What is wrong with one holder's sum; `whole` when none of its holdings was refused."""
        terms = self._terms
        self._total += (units := tokens * terms.units_per_token)
        where = "balance" if line else place
        if whole and units.denominator != 1:
            amount = f"{tokens} x {terms.face_value_per_token:f} {terms.token} for {address}"
            decimals = f"{terms.token}'s {terms.token_decimals} decimals"
            return Problem(where, f"{amount} is too fine for {decimals}", line)
        if whole and units > MAX_UNITS:
            return Problem(where, f"{address} would get more than a uint256 of units", line)
        return None

    def bond(self) -> Problem | None:
        """What is wrong with the sum of all."""
        if self._total > MAX_UNITS:
            return Problem("", "the bond pays more than a uint256 of units")
        return None


def contradiction(name: str, now: object, before: object, first: str, line: int | None) -> Problem:
    """A row says otherwise than the first one of its address; `name` is the field."""
    reason = f"{now!r} contradicts {before!r} of the same address at {first}"
    return Problem(name, reason, line)


def repeated(name: str, address: str, token_id: int, first: str, line: int | None) -> Problem:
    """A position that was there before; `name` is the field of the token id."""
    return Problem(name, f"{address} has token {token_id} already, at {first}", line)


class ContentDigest:
    """SHA-256 of a register: order, white space and trailing zeros of the file do not matter."""

    def __init__(self, terms: BondTerms) -> None:
        content = {**vars(terms)}
        content["face_value_per_token"] = format(terms.face_value_per_token, "f")
        content["maturity_date"] = terms.maturity_date.isoformat()
        self._hash = hashlib.sha256(json.dumps(content, sort_keys=True).encode())

    def add(self, who: Investor) -> None:
        """Investors come sorted by address."""
        row = [who.address, who.name, who.email, who.whitelisted, who.holdings]
        self._hash.update(b"\n" + json.dumps(row).encode())

    def hexdigest(self) -> str:
        """Of all that was added."""
        return self._hash.hexdigest()


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
            name, address = _field(place, "token_id", line), str(entry.details.address)
            self.problems.append(repeated(name, address, token_id, earlier[1], line))
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
                at = _field(place, name, line)
                self.problems.append(contradiction(at, now, before, entry.place, line))

    def _amounts(self, terms: BondTerms) -> Iterator[Problem]:
        amounts = Amounts(terms)
        for address, entry in self._entries.items():
            tokens = sum(balance for balance, _ in entry.holdings.values())
            if problem := amounts.holder(address, tokens, entry.whole, entry.place, entry.line):
                yield problem
        if problem := amounts.bond():
            yield problem


def _field(place: str, name: str, line: int | None) -> str:
    return name if line else f"{place}.{name}"
