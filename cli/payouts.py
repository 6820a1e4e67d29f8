"""`overnight payouts`: what runs did, are doing, and whether the chain agrees."""

import csv
import getpass
import sys
from dataclasses import fields
from typing import Annotated

import typer

from cli import compose
from cli.output import FAILED, PARTIAL, AsJson, print_facts, print_json, print_table, remark
from cli.run_view import accounting_lines, exit_code, watch
from domain.payouts import as_tokens
from usecases.payouts.acceptance import accept_unburned
from usecases.payouts.approval import approve_run
from usecases.payouts.reconcile import reconcile as reconcile_run
from usecases.payouts.retry import retry_run
from usecases.payouts.stopping import resume_run, stop_run
from usecases.payouts.views import StatementRow, find_run, list_held, list_runs, show_run
from usecases.payouts.views import statement as statement_of

app = typer.Typer(
    help="Follow payout runs, decide about them, and check them.", no_args_is_help=True
)

Run = Annotated[str, typer.Argument(help="The run's id, or its first digits.")]
By = Annotated[
    str | None, typer.Option("--by", help="Who decides, for the record; default: the user.")
]


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
    apart = ("summary", "accounting", "pages", "decisions")
    rest = {k: v for k, v in vars(view).items() if k not in apart}
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
    for said in view.decisions:
        typer.echo(f"{said.at:%Y-%m-%d %H:%M:%S} {said.kind} by {said.person}: {said.note or '-'}")


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


@app.command(epilog="Exit code 1 for a wrong hash, or for the person who triggered the run.")
def approve(
    run: Run,
    plan_hash: Annotated[
        str, typer.Option("--hash", help="The plan's hash, as preview or show print it.")
    ],
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Approve the plan of a run that needs a second person; it binds to the plan's hash."""
    with compose.database():
        run_id = find_run(run)
        is_new = approve_run(run_id, plan_hash, by or getpass.getuser())
    if as_json:
        print_json({"run_id": run_id, "approved": True, "is_new": is_new})
    else:
        typer.echo(f"run {run_id} is approved" if is_new else f"run {run_id} was approved before")


@app.command(epilog="Exit code 3 when burned legs are left unpaid: they are debts.")
def stop(
    run: Run,
    by: By = None,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    as_json: AsJson = False,
) -> None:
    """Sign nothing more for a run. What is on chain is settled; burned legs stay owed.

    Without anything on chain the run is cancelled for good, and its bond can be triggered again.
    """
    with compose.database():
        stopped = stop_run(find_run(run), by or getpass.getuser(), reason)
    if as_json:
        print_json(stopped)
    else:
        typer.echo(f"run {stopped.run_id} is {stopped.state}")
        if stopped.debts:
            remark(f"{stopped.debts} holders are burned and unpaid: `overnight payouts resume`")
    if stopped.debts:
        raise typer.Exit(PARTIAL)


@app.command()
def resume(run: Run, by: By = None, as_json: AsJson = False) -> None:
    """Let a stopped run go on: debts first, after its money is reserved again."""
    with compose.database():
        run_id = find_run(run)
        state = resume_run(run_id, by or getpass.getuser())
    if as_json:
        print_json({"run_id": run_id, "state": state})
    else:
        typer.echo(f"run {run_id} is {state}")


@app.command(epilog="Exit code 1 when the wallet lacks the money, or the run is not one to retry.")
def retry(
    run: Run,
    only_held: Annotated[
        bool, typer.Option("--held", help="Only those who were not whitelisted.")
    ] = False,
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Take up a run's failed and held holders, if they are whitelisted now."""
    with compose.world():
        run_id = find_run(run)
        taken = retry_run(run_id, only_held=only_held, by=by or getpass.getuser())
    if as_json:
        print_json({"run_id": run_id, "taken_up": taken})
    else:
        typer.echo(f"{taken} holders are in line again")


@app.command(epilog="Exit code 3 until a second person has accepted it, too.")
def accept(
    run: Run,
    address: Annotated[str, typer.Argument(help="The holder's address.")],
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Accept that a holder was paid and can't be burned, after a deep reorg; two people must."""
    with compose.database():
        done = accept_unburned(find_run(run), address, by or getpass.getuser())
    if as_json:
        print_json(done)
    elif done.applied:
        typer.echo(f"{address} is accepted, as {' and '.join(done.people)} say")
    else:
        typer.echo(f"{address}: recorded for {done.people[-1]}")
        remark("a second person must accept it, too")
    if not done.applied:
        raise typer.Exit(PARTIAL)


@app.command()
def held(
    run: Annotated[str | None, typer.Argument(help="Only of this run; default: of all.")] = None,
    as_json: AsJson = False,
) -> None:
    """List who is held and why: those already burned, who are owed money, come first."""
    with compose.database():
        legs = list_held(run)
    if as_json:
        print_json(legs)
        return
    print_table(
        ("run", "bond", "address", "name", "amount", "token", "reason", "burned"),
        [
            (x.run_id, x.bond_id, x.address, x.name, x.amount, x.token, x.reason, x.is_debt)
            for x in legs
        ],
        right=("amount",),
    )
    if not legs:
        remark("nobody is held")


def _print_csv(rows: list[StatementRow]) -> None:
    names = [column.name for column in fields(StatementRow)]
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(names)
    for row in rows:
        values = vars(row) | {"amount": format(row.amount, "f")}
        out.writerow([values[name] for name in names])
