"""What commands print: results on stdout (a table or JSON), remarks and progress on stderr."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from io import StringIO
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

#: Exit codes of every command.
DONE, FAILED, USAGE, PARTIAL = 0, 1, 2, 3

#: What a table may take where no terminal limits it: nothing is cut off in a pipe.
WIDE_COLUMNS = 400

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON with stable keys.")]


def remark(text: str) -> None:
    """One line on stderr."""
    typer.echo(text, err=True)


def print_json(value: object) -> None:
    """Dataclasses, dates, UUIDs and decimals included; decimals become strings, exactly."""
    typer.echo(json.dumps(plain(value), indent=2, ensure_ascii=False))


def plain(value: object) -> Any:
    """`value` as what JSON knows."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Decimal():
            return format(value, "f")
        case timedelta():
            return value.total_seconds()
        case datetime() | date():
            return value.isoformat()
        case UUID():
            return str(value)
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case Iterable():
            return [plain(item) for item in value]
    if is_dataclass(value):
        return {item.name: plain(getattr(value, item.name)) for item in fields(value)}
    raise TypeError(f"no JSON for {type(value).__name__}")


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[str] = ()
) -> None:
    """A table on stdout; columns in `right` are numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(shown(cell)) for cell in row))
    if sys.stdout.isatty():
        Console().print(table)
        return
    wide = Console(width=WIDE_COLUMNS, file=StringIO(), color_system=None)
    with wide.capture() as text:
        wide.print(table)
    typer.echo("\n".join(line.rstrip() for line in text.get().splitlines()))


def print_facts(facts: Mapping[str, object]) -> None:
    """Names and values, one a line."""
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        typer.echo(f"{name:<{width}}  {shown(value)}")


def shown(value: object) -> str:
    """A value as people read it."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case Decimal():
            return f"{value:,f}"
        case datetime():
            return value.strftime("%Y-%m-%d %H:%M:%S")
        case timedelta():
            return f"{value.total_seconds():,.1f} s"
    return str(value)
