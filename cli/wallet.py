"""`overnight wallet`: the wallet that pays."""

import typer

from cli import compose
from cli.output import PARTIAL, AsJson, print_facts, print_json, print_table
from usecases.wallet_status import wallet_status

app = typer.Typer(help="Look at the wallet that pays.", no_args_is_help=True)

#: Decimals of the payment token as long as no bond says otherwise.
TOKEN_DECIMALS = 6


@app.callback()
def wallet() -> None:
    """Look at the wallet that pays."""


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
    if status.halted:
        raise typer.Exit(PARTIAL)
