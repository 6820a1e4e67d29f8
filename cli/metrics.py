"""`overnight metrics`: the derived metrics, one company's or all of them as CSV."""

import csv
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, TextIO

import typer

from cli import compose
from cli.output import AsJson, print_json, print_table, remark
from domain.errors import InvalidInput
from usecases.research.metric_views import EXPORT_COLUMNS, export_rows, metrics_of

app = typer.Typer(help="Derived metrics of companies.", no_args_is_help=True)


@app.command(epilog="Example:\n\n  overnight metrics show AAPL --periods 8")
def show(
    symbol: Annotated[str, typer.Argument(help="The company's symbol, such as AAPL.")],
    periods: Annotated[int, typer.Option(min=1, help="How many quarters, newest first.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Show a company's metrics; where there is no value, why."""
    with compose.database():
        rows = metrics_of(symbol, periods)
    if as_json:
        print_json(rows)
        return
    print_table(
        ("period", "metric", "value", "why not"),
        [(row.period_end_date, row.metric_name, row.value, row.null_reason) for row in rows],
        right=("value",),
    )
    if not rows:
        remark("no metrics yet: `overnight nightly --all` fetches what they are made of")


@app.command(epilog="Example:\n\n  overnight metrics export --csv metrics.csv")
def export(
    file: Annotated[Path | None, typer.Argument(help="Where to; default: standard output.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="The only format there is.")] = False,
    symbol: Annotated[
        list[str] | None, typer.Option("--symbol", help="Only this company; may be repeated.")
    ] = None,
) -> None:
    """Write all metrics as CSV: company, period_end_date, metric_name, value, null_reason."""
    if not as_csv:
        raise InvalidInput("metrics export: give --csv, the only format")
    with compose.database(), ExitStack() as stack:
        target: TextIO = sys.stdout
        if file is not None:
            target = stack.enter_context(file.open("w", encoding="utf-8", newline=""))
        writer = csv.writer(target, lineterminator="\n")
        writer.writerow(EXPORT_COLUMNS)
        count = 0
        for company, period, metric, value, reason in export_rows(symbol or ()):
            text = "" if value is None else format(value, "f")
            writer.writerow((company, period.isoformat(), metric, text, reason or ""))
            count += 1
    remark(f"{count:,} rows")
