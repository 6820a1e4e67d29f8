"""bond.json: the bond's terms and, where no CSV brings them, its investors.

Numbers keep the text that stood in the file. Unknown, missing and repeated fields are problems.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from domain import bond_fields as fields
from domain.bond_register import BadBondFile, BondTerms, Details, HolderSink, Problem
from domain.json_lines import lines_of

_TYPE_NAMES = {dict: "an object", list: "a list", bool: "true or false", type(None): "null"}


class Number(str):
    """A JSON number, as it was written."""

    __slots__ = ()


class Object(dict[str, Any]):
    """A JSON object that remembers which of its keys came twice."""

    repeated: tuple[str, ...] = ()


def _object(pairs: list[tuple[str, Any]]) -> Object:
    made = Object(pairs)
    if len(made) != len(pairs):
        keys = [key for key, _ in pairs]
        made.repeated = tuple(key for key in made if keys.count(key) > 1)
    return made


_TERMS: Mapping[str, Callable[[str], Any]] = {
    "id": fields.bond_id,
    "name": fields.required_text,
    "contract": fields.address,
    "token": fields.token,
    "token_decimals": fields.token_decimals,
    "face_value_per_token": fields.face_value,
    "maturity_date": fields.day,
}
_NUMBERS = ("token_decimals", "face_value_per_token", "token_id", "balance")
_INVESTOR = ("address", "name", "email", "whitelisted", "holdings")
_INVESTOR_REQUIRED = ("address", "whitelisted", "holdings")
_HOLDING = ("token_id", "balance")


def load(text: str) -> Object:
    """Parse the text. Raises BadBondFile when it is not JSON, or not an object."""
    try:
        document = json.loads(
            text.removeprefix("\ufeff"),
            parse_int=Number,
            parse_float=Number,
            parse_constant=Number,
            object_pairs_hook=_object,
        )
    except json.JSONDecodeError as error:
        reason = f"not JSON: {error.msg} (column {error.colno})"
        raise BadBondFile([Problem("", reason, error.lineno)]) from None
    except RecursionError:
        raise BadBondFile([Problem("", "not a bond file: nested too deeply")]) from None
    if not isinstance(document, Object):
        raise BadBondFile([Problem("", "an object with bond and investors is expected", 1)])
    return document


def with_lines(text: str, problems: list[Problem]) -> list[Problem]:
    """The same problems, each with the line of its value or of the nearest thing around it."""
    wanted = {around for p in problems if p.line is None for around in _around(p.field)}
    lines = lines_of(text, wanted)
    return [
        replace(p, line=next((lines[path] for path in _around(p.field) if path in lines), None))
        if p.line is None
        else p
        for p in problems
    ]


def _around(path: str) -> list[str]:
    paths = [path]
    while path:
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
        paths.append(path)
    return paths


class Reader:
    """Walks the document; what is wrong goes to the register's problems."""

    def __init__(self, register: HolderSink) -> None:
        self._register = register

    def problem(self, path: str, reason: str) -> None:
        """Note that the value at `path` is wrong."""
        self._register.problems.append(Problem(path, reason))

    def keys(
        self, found: Object, path: str, known: Collection[str], required: Collection[str]
    ) -> None:
        """Report unknown, missing and repeated keys."""
        prefix = f"{path}." if path else ""
        for key in found:
            if key not in known:
                shown = key if key.isidentifier() else ascii(key)
                self.problem(f"{prefix}{shown}", f"unknown field; known are {', '.join(known)}")
        for key in required:
            if key not in found:
                self.problem(f"{prefix}{key}", "missing field")
        for key in found.repeated:
            self.problem(f"{prefix}{key}", "this field appears twice")

    def terms(self, found: Any) -> BondTerms | None:
        """The bond's terms; None when something is wrong with them."""
        if not isinstance(found, Object):
            self.problem("bond", "an object is expected")
            return None
        self.keys(found, "bond", _TERMS, _TERMS)
        values = {key: self.text(found, "bond", key, parse) for key, parse in _TERMS.items()}
        return None if None in values.values() else BondTerms(**values)

    def investors(self, found: Any) -> None:
        """Put every holding into the register."""
        for path, investor in self._objects(found, "investors"):
            self.keys(investor, path, _INVESTOR, _INVESTOR_REQUIRED)
            details = Details(
                address=self.text(investor, path, "address", fields.address),
                whitelisted=self._flag(investor, path),
                name=self.text(investor, path, "name", fields.free_text, ""),
                email=self.text(investor, path, "email", fields.email, ""),
            )
            entry = self._register.investor(details, path)
            holdings = investor.get("holdings", ())
            if holdings == []:
                self.problem(f"{path}.holdings", "no holdings: leave the investor out")
            for at, holding in self._objects(holdings, f"{path}.holdings"):
                self.keys(holding, at, _HOLDING, _HOLDING)
                token_id = self.text(holding, at, "token_id", fields.token_id)
                balance = self.text(holding, at, "balance", fields.balance)
                if entry:
                    self._register.holding(entry, token_id, balance, at)

    def text(
        self,
        found: Object,
        path: str,
        key: str,
        parse: Callable[[str], Any],
        default: str | None = None,
    ) -> Any:
        """The parsed value of a field; `default` when it is missing, None when it is wrong."""
        if key not in found:
            return default
        raw = found[key]
        if not isinstance(raw, str) or (isinstance(raw, Number) and key not in _NUMBERS):
            kind = "a number" if isinstance(raw, Number) else _TYPE_NAMES[_kind(raw)]
            self.problem(f"{path}.{key}", f"a text is expected, not {kind}")
            return None
        try:
            return parse(raw)
        except fields.BadField as error:
            self.problem(f"{path}.{key}", str(error))
            return None

    def _flag(self, investor: Object, path: str) -> bool | None:
        raw = investor.get("whitelisted")
        if isinstance(raw, bool):
            return raw
        if "whitelisted" in investor:
            self.problem(f"{path}.whitelisted", "true or false is expected, without quotes")
        return None

    def _objects(self, found: Any, path: str) -> Iterable[tuple[str, Object]]:
        if not isinstance(found, list | tuple):
            self.problem(path, "a list is expected")
            return
        for number, item in enumerate(found):
            at = f"{path}[{number}]"
            if isinstance(item, Object):
                yield at, item
            else:
                self.problem(at, "an object is expected")


def _kind(raw: Any) -> type:
    return dict if isinstance(raw, dict) else type(raw)
