"""`overnight wallet`: the wallet that pays, and what a person decides about it."""

import getpass
from typing import Annotated

import typer

from cli import compose
from cli.output import PARTIAL, AsJson, print_facts, print_json, print_table, remark
from usecases.payouts.adoption import adopt_wallet
from usecases.payouts.wallet_control import halt_wallet, resolve_nonce, resume_wallet
from usecases.wallet_status import wallet_status

app = typer.Typer(
    help="Look at the wallet that pays, and decide what it may do.", no_args_is_help=True
)

By = Annotated[
    str | None, typer.Option("--by", help="Who decides, for the record; default: the user.")
]

#: Decimals of the payment token as long as no bond says otherwise.
TOKEN_DECIMALS = 6


@app.callback()
def wallet() -> None:
    """Look at the wallet that pays, and decide what it may do."""


@app.command(epilog="Exit code 3 when the wallet is halted.")
def show(as_json: AsJson = False) -> None:
    """Show what the wallet holds at the final block, what is promised, its nonces and its state."""
    with compose.world() as settings:
        status = wallet_status(settings.payment_token, TOKEN_DECIMALS)
    if as_json:
        print_json(status)
    else:
        nonces = f"chain {status.chain_nonce}, ours {status.our_nonce}"
        print_facts(
            {
                "address": status.address,
                "chain": status.chain_id,
                "environment": status.environment_id,
                "state": "halted"
                if status.halted
                else "bound"
                if status.bound
                else "not bound yet",
                "halted because": status.halted,
                "block": f"{status.head.height}, final {status.head.final_height}",
                "next nonce": nonces if status.bound else status.chain_nonce,
                "open operations": status.open_operations or "none",
                "coin for fees, units": f"{status.coin_balance_units:,}"
                f" ({status.coin_available_units:,} available)",
            }
        )
        print_table(
            ("token", "balance", "reserved", "available"),
            [(t.token, t.balance, t.reserved, t.available) for t in status.tokens],
            right=("balance", "reserved", "available"),
        )
        for said in status.decisions:
            about = "" if said.nonce is None else f" nonce {said.nonce} {said.tx_hash}"
            note = said.note or ""
            typer.echo(f"{said.at:%Y-%m-%d %H:%M:%S} {said.kind} by {said.person}{about} {note}")
    if status.halted:
        raise typer.Exit(PARTIAL)


@app.command()
def halt(
    reason: Annotated[str, typer.Option(help="Why; everybody will read it.")],
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Stop every new signature. What was signed before is still settled and sent again."""
    with compose.world():
        why = halt_wallet(by or getpass.getuser(), reason)
    if as_json:
        print_json({"halted": why})
    else:
        typer.echo(f"the wallet is halted: {why}")


@app.command(epilog="Exit code 1 while something contradicts; the message says what to do.")
def resume(by: By = None, as_json: AsJson = False) -> None:
    """Let a halted wallet sign again, if chain and database agree."""
    with compose.world():
        changed = resume_wallet(by or getpass.getuser())
    if as_json:
        print_json({"resumed": changed})
    else:
        typer.echo("the wallet may sign again" if changed else "the wallet was not halted")


@app.command(epilog="Exit code 3 when transactions are left that nobody can match yet.")
def adopt(by: By = None, as_json: AsJson = False) -> None:
    """Import what the chain did with this wallet and the database does not know.

    After a restored backup, a foreign use of the key, or a reorg deeper than finality. It signs
    nothing, and can be repeated; `overnight wallet resume` lets the wallet sign again.
    """
    with compose.world():
        done = adopt_wallet(by or getpass.getuser())
    if as_json:
        print_json(done)
    else:
        for item in done.adopted:
            place = f"in block {item.height}" if item.height is not None else "pending"
            typer.echo(f"nonce {item.nonce} {item.tx_hash} {place}: {item.kind} of {item.legs}")
        for nonce in done.reopened:
            typer.echo(f"nonce {nonce}: changed by a reorg, looked at again")
        for nonce in done.filled:
            typer.echo(f"nonce {nonce}: its transaction is lost, an empty one takes its place")
        for left in done.unmatched:
            typer.echo(f"nonce {left.nonce} {left.tx_hash or 'unknown'} NOT MATCHED: {left.why}")
        if not (done.adopted or done.reopened or done.filled or done.unmatched):
            typer.echo("nothing to adopt")
        if done.halted and not done.unmatched:
            remark("now `overnight wallet resume`")
    if done.unmatched:
        raise typer.Exit(PARTIAL)


@app.command(epilog="Exit code 3 until a second person has said the same.")
def resolve(
    nonce: Annotated[int, typer.Argument(min=0, help="The nonce that was used.")],
    tx_hash: Annotated[str, typer.Option("--tx", help="The hash of what used it.")],
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Say that a nonce was used by something that is none of our payouts; two people must."""
    with compose.world():
        done = resolve_nonce(nonce, tx_hash, by or getpass.getuser())
    if as_json:
        print_json(done)
    elif done.applied:
        typer.echo(f"nonce {nonce} is resolved, as {' and '.join(done.people)} say")
    else:
        typer.echo(f"nonce {nonce}: recorded for {done.people[-1]}")
        remark("a second person must say the same")
    if not done.applied:
        raise typer.Exit(PARTIAL)
