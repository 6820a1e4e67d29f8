"""Read one field of an answer: text in; a number, a date or None out; else Malformed names it.

    JSON or CSV → object or rows → number | date | text

"None", "null", "", "-" and "." are None. A number is what the provider wrote, as Decimal; what
PostgreSQL could not store (NaN, infinity, a thousand digits) is malformed.
"""

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, Never

from providers.redaction import clip

MISSING = frozenset({"", "none", "null", "-", "."})

_NUMBER = re.compile(r"[+-]?(\d{1,60}(\.\d{0,60})?|\.\d{1,60})([eE][+-]?\d{1,2})?", re.ASCII)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


class Malformed(Exception):
    """An answer that is not what was promised; the text names the field and shows what it held."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field


def text(raw: object, field: str) -> str | None:
    """A text, None where the provider writes one of its words for nothing."""
    if raw is None:
        return None
    if not isinstance(raw, str):
        raise Malformed(field, f"expected text, found {_shown(raw)}")
    return None if raw.strip().lower() in MISSING else raw.strip()


def required_text(raw: object, field: str) -> str:
    """A text that must be there."""
    found = text(raw, field)
    if found is None:
        raise Malformed(field, "is missing")
    return found


def number(raw: object, field: str) -> Decimal | None:
    """A number, also one that JSON wrote without quotes."""
    if isinstance(raw, int | Decimal) and not isinstance(raw, bool):
        raw = str(raw)
    found = text(raw, field)
    if found is None:
        return None
    if not _NUMBER.fullmatch(found):
        raise Malformed(field, f"expected a number, found {_shown(found)}")
    return Decimal(found)


def required_number(raw: object, field: str) -> Decimal:
    """A number that must be there."""
    found = number(raw, field)
    if found is None:
        raise Malformed(field, "is missing")
    return found


def day(raw: object, field: str) -> date | None:
    """A date as YYYY-MM-DD. "0000-00-00" is None, too: some feeds write it for no date."""
    found = text(raw, field)
    if found is None or found == "0000-00-00":
        return None
    try:
        if not _DATE.fullmatch(found):
            raise ValueError
        return date.fromisoformat(found)
    except ValueError:
        raise Malformed(field, f"expected YYYY-MM-DD, found {_shown(found)}") from None


def required_day(raw: object, field: str) -> date:
    """A date that must be there."""
    found = day(raw, field)
    if found is None:
        raise Malformed(field, "is missing")
    return found


def json_object(body: bytes) -> Mapping[str, Any]:
    """The object that the body is. Numbers without quotes become int and Decimal."""
    try:
        found = json.loads(decoded(body), parse_float=Decimal, parse_constant=_not_json)
    except (ValueError, RecursionError) as error:
        raise Malformed("body", f"not JSON: {clip(str(error), 120)}") from None
    if not isinstance(found, dict):
        raise Malformed("body", f"expected an object, found {_shown(found)}")
    return found


def objects(found: Mapping[str, Any], key: str) -> Sequence[Mapping[str, Any]]:
    """The list of objects under `key`."""
    rows = found.get(key)
    if not isinstance(rows, list):
        raise Malformed(key, "is missing" if rows is None else f"expected a list, {_shown(rows)}")
    for index, row in enumerate(rows):
        if not isinstance(row, dict):
            raise Malformed(f"{key}[{index}]", f"expected an object, found {_shown(row)}")
    return rows


def csv_rows(body: bytes, required: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV by the names of its header, in any order; blank lines are none."""
    try:
        reader = csv.DictReader(io.StringIO(decoded(body), newline=""), strict=True)
        header = [name.strip() for name in reader.fieldnames or ()]
        missing = [name for name in required if name not in header]
        if missing:
            raise Malformed(missing[0], f"no such column; there are {_shown(', '.join(header))}")
        reader.fieldnames = header
        rows = []
        for row in reader:
            if None in row or None in row.values():
                raise Malformed(f"line {reader.line_num}", f"expected {len(header)} fields")
            rows.append(row)
    except csv.Error as error:
        raise Malformed("body", f"not CSV: {error}") from None
    return rows


def decoded(body: bytes) -> str:
    """The body as text; a byte order mark is dropped."""
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Malformed("body", f"not UTF-8 at byte {error.start}") from None


def _not_json(constant: str) -> Never:
    raise ValueError(f"{constant} is no JSON number")


def _shown(raw: object) -> str:
    return clip(repr(raw), 60)
