"""`overnight maturity`: preview a bond's redemption, trigger it."""

import getpass
from typing import Annotated

import typer

from cli import compose
from cli.output import PARTIAL, AsJson, print_facts, print_json, print_table, remark
from cli.run_view import exit_code, watch
from domain.payouts import as_tokens
from usecases.jobs import stats
from usecases.payouts.preview import Preview, preview_maturity
from usecases.payouts.trigger import trigger_maturity

app = typer.Typer(help="Redeem a matured bond: preview, then trigger.", no_args_is_help=True)

Bond = Annotated[str, typer.Argument(help="The bond's id.")]


@app.command(epilog="Exit code 3 when the wallet lacks money or holders would be held.")
def preview(
    bond: Bond,
    holders: Annotated[bool, typer.Option("--holders", help="Also print every payment.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a trigger would pay and meet now, without any effect."""
    with compose.world():
        found = preview_maturity(bond)
    if as_json:
        print_json({**vars(found), "is_funded": found.is_funded})
    else:
        _print(found, holders)
    if found.held_units or not found.is_funded:
        raise typer.Exit(PARTIAL)


@app.command(epilog="Example:\n\n  overnight maturity trigger UPW-2026-A --watch")
def trigger(
    bond: Bond,
    by: Annotated[
        str | None, typer.Option(help="Who triggers it, for the record; default: the user.")
    ] = None,
    run_id: Annotated[
        str | None,
        typer.Option(help="Bring back this run, which a restored database has lost."),
    ] = None,
    watch_it: Annotated[bool, typer.Option("--watch", help="Show it until it is over.")] = False,
    as_json: AsJson = False,
) -> None:
    """Start paying a matured bond's holders; an unfinished run of the bond is returned as it is.

    The payment is done by `overnight worker`. With --watch the exit code is that of the run.
    """
    with compose.world():
        result = trigger_maturity(bond, by or getpass.getuser(), run_id)
        if as_json:
            print_json(result)
        else:
            typer.echo(f"run {result.run_id} {'started' if result.created else 'is under way'}")
        if stats().workers_alive == 0:
            remark("no worker is alive: start one with `overnight worker`")
        if watch_it:
            raise typer.Exit(exit_code(watch(result.run_id)))
    if not as_json:
        remark(f"follow it with `overnight payouts watch {result.run_id[:8]}`")


def _print(found: Preview, holders: bool) -> None:
    def amount(units: int) -> str:
        sign = "-" if units < 0 else ""
        return f"{sign}{as_tokens(abs(units), found.token_decimals):,f} {found.token}"

    held = [leg for leg in found.legs if leg.held]
    print_facts(
        {
            "bond": found.bond_id,
            "plan": found.plan_hash,
            "holders": len(found.legs),
            "would be held": f"{len(held):,} ({amount(found.held_units)})",
            "Required": amount(found.total_units),
            "Available": amount(found.available_units),
            "funded": found.is_funded,
        }
    )
    if holders:
        print_table(
            ("address", "name", "amount", "held because"),
            [(leg.address, leg.name, amount(leg.units), leg.held) for leg in found.legs],
            right=("amount",),
        )
