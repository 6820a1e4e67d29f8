"""A bond's holders as CSV, one row per holding, read as a stream.

    address,token_id,balance,whitelisted,name,email     (any order; name and email may be missing)

A wrong row is reported and the reading goes on, so that one look shows all that is wrong.
"""

import csv
from collections.abc import Callable, Iterable
from typing import Any

from domain import bond_fields as fields
from domain.bond_register import Details, HolderSink, Problem

REQUIRED = ("address", "token_id", "balance", "whitelisted")
OPTIONAL = ("name", "email")


def read_holders(lines: Iterable[str], register: HolderSink) -> None:
    """Put every row into the register, and what is wrong into its problems."""
    reader = csv.reader(lines, strict=True)
    line = 1
    try:
        header = [name.strip() for name in next(reader, [])]
        if header:
            header[0] = header[0].removeprefix("\ufeff").strip()
        if problems := _check_header(header):
            register.problems.extend(problems)
            return
        line = reader.line_num + 1
        for cells in reader:
            if cells:
                _read_row(dict(zip(header, cells, strict=False)), header, cells, line, register)
            line = reader.line_num + 1  # a quoted cell may span lines: where the next row starts
    except csv.Error as error:
        register.problems.append(Problem("", f"not CSV: {error}", line))
    except UnicodeDecodeError as error:
        reason = f"not UTF-8 after this line: {error.reason}"
        register.problems.append(Problem("", reason, reader.line_num))


def _check_header(header: list[str]) -> list[Problem]:
    problems = []
    known = (*REQUIRED, *OPTIONAL)
    for number, name in enumerate(header):
        if name not in known:
            reason = f"unknown column; known are {', '.join(known)}"
            problems.append(Problem(ascii(name), reason, 1))
        elif name in header[:number]:
            problems.append(Problem(name, "this column appears twice", 1))
    problems += [Problem(name, "missing column", 1) for name in REQUIRED if name not in header]
    return problems


def _read_row(
    row: dict[str, str], header: list[str], cells: list[str], line: int, register: HolderSink
) -> None:
    if len(cells) != len(header):
        reason = f"{len(cells)} cells where the header has {len(header)}"
        register.problems.append(Problem("", reason, line))
        return

    def read(name: str, parse: Callable[[str], Any]) -> Any:
        try:
            return parse(row.get(name, "").strip())
        except fields.BadField as error:
            register.problems.append(Problem(name, str(error), line))
            return None

    token_id, balance = read("token_id", fields.token_id), read("balance", fields.balance)
    details = Details(
        address=read("address", fields.address),
        whitelisted=read("whitelisted", fields.flag),
        name=read("name", fields.free_text),
        email=read("email", fields.email),
    )
    if entry := register.investor(details, f"line {line}", line):
        register.holding(entry, token_id, balance, f"line {line}", line)
