"""`overnight payouts`: what runs did, are doing, and whether the chain agrees."""

import csv
import sys
from dataclasses import fields
from typing import Annotated

import typer

from cli import compose
from cli.output import FAILED, AsJson, print_facts, print_json, print_table, remark
from cli.run_view import accounting_lines, exit_code, watch
from domain.payouts import as_tokens
from usecases.payouts.reconcile import reconcile as reconcile_run
from usecases.payouts.views import StatementRow, find_run, list_runs, show_run
from usecases.payouts.views import statement as statement_of

app = typer.Typer(help="Follow payout runs and check them.", no_args_is_help=True)

Run = Annotated[str, typer.Argument(help="The run's id, or its first digits.")]


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List all runs, the newest first."""
    with compose.database():
        runs = list_runs()
    if as_json:
        print_json(runs)
        return
    columns = ("run", "kind", "bond", "state", "holders", "total", "token", "triggered", "note")
    print_table(
        columns,
        [
            (
                run.id, run.kind, run.bond_id, run.state, run.leg_count,
                None if run.total_units is None
                else as_tokens(run.total_units, run.token_decimals),
                run.token, run.triggered_at, run.note,
            )
            for run in runs
        ],
        right=("holders", "total"),
    )  # fmt: skip
    if not runs:
        remark("no runs yet: `overnight maturity trigger BOND`")


@app.command()
def show(run: Run, as_json: AsJson = False) -> None:
    """Show one run: state, accounting line, pages and wallet."""
    with compose.database():
        view = show_run(run)
    if as_json:
        print_json(view)
        return
    rest = {k: v for k, v in vars(view).items() if k not in ("summary", "accounting", "pages")}
    facts = {**vars(view.summary), **rest}
    total = view.summary.total_units
    facts["total"] = None if total is None else as_tokens(total, view.summary.token_decimals)
    del facts["total_units"]
    print_facts({name.replace("_", " "): value for name, value in facts.items()})
    for line in accounting_lines(view.accounting, view.summary.token, view.summary.token_decimals):
        typer.echo(line)
    if view.pages:
        print_table(
            ("page", "begins with", "holders", "job", "status"),
            [
                (p.number, p.phase, p.legs, p.job_type, "parked" if p.parked else p.job_status)
                for p in view.pages
            ],
            right=("page", "holders"),
        )


@app.command("watch", epilog="Exit codes: 0 all paid, 3 with holds or failures, 1 failed.")
def watch_(
    run: Run,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="Stop watching after so many seconds (code 3).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Follow a run live until it is over; the exit code tells how it ended."""
    with compose.database():
        view = watch(find_run(run), timeout)
    if as_json:
        print_json(view)
    else:
        typer.echo(f"run {view.summary.id} is {view.summary.state}")
        summary = view.summary
        for line in accounting_lines(view.accounting, summary.token, summary.token_decimals):
            typer.echo(line)
    raise typer.Exit(exit_code(view))


@app.command(epilog="Example:\n\n  overnight payouts statement 3f9e99 --csv > statement.csv")
def statement(
    run: Run,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print who got what: one line per holder, with the burn's and the payment's hash."""
    if as_csv and as_json:
        raise typer.BadParameter("choose one of --csv and --json")
    with compose.database():
        rows = statement_of(run)
    if as_json:
        print_json(rows)
    elif as_csv:
        _print_csv(rows)
    else:
        print_table(
            ("address", "name", "amount", "state", "reason", "burn hash", "payment hash"),
            [
                (r.address, r.name, r.amount, r.state, r.reason, r.burn_hash, r.paid_hash)
                for r in rows
            ],
            right=("amount",),
        )


@app.command(epilog="Exit code 1 when anything differs; maturity payouts are paused then.")
def reconcile(run: Run, as_json: AsJson = False) -> None:
    """Compare plan, database and chain at one final block, and say where they differ."""
    with compose.world():
        result = reconcile_run(find_run(run))
    if as_json:
        print_json(result)
    else:
        word = "agree" if result.ok else "DIFFER"
        typer.echo(f"plan, database and chain {word} at final block {result.block}")
        for finding in result.findings:
            typer.echo(f"  {finding}")
    if not result.ok:
        raise typer.Exit(FAILED)


def _print_csv(rows: list[StatementRow]) -> None:
    names = [column.name for column in fields(StatementRow)]
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(names)
    for row in rows:
        values = vars(row) | {"amount": format(row.amount, "f")}
        out.writerow([values[name] for name in names])
