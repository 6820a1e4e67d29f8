"""`overnight mockchain`: look at the mock chain, and be the outside world.

Only for development, tests and the demo: a real chain has no such commands.
"""

from collections.abc import Callable
from typing import Annotated

import typer

from cli.output import AsJson, print_facts, print_json, print_table
from domain.ids import new_id
from mocks.chain import ChainStatus, FaultKind, MockChain, MockSigner
from providers.chain import TxItem, TxKind, UnsignedTransaction

GetChain = Callable[[], MockChain]
Addresses = Annotated[list[str], typer.Argument(help="Checksummed addresses.")]


def build(get_chain: GetChain) -> typer.Typer:
    """The commands, over the chain that `get_chain` opens when one of them runs."""
    app = typer.Typer(
        name="mockchain",
        help="Look at the mock chain and steer it: blocks, funds, whitelist, faults, reorgs.",
        no_args_is_help=True,
    )
    _inspection(app, get_chain)
    _accounts(app, get_chain)
    _blocks(app, get_chain)
    _faults(app, get_chain)
    return app


def _inspection(app: typer.Typer, get_chain: GetChain) -> None:
    @app.command()
    def show(as_json: AsJson = False) -> None:
        """Height, finality, mempool, supply and faults at a glance."""
        chain = get_chain()
        status, pending, faults = chain.status(), chain.pending(), chain.faults()
        if as_json:
            print_json(vars(status) | {"pending": pending, "faults": faults})
            return
        print_facts(_facts(status) | {"fault rules in force": len(faults)})
        if status.totals:
            typer.echo()
            print_table(("supply of", "units"), sorted(status.totals.items()), right=("units",))
        if pending:
            typer.echo()
            print_table(("pending transactions",), [(tx_hash,) for tx_hash in pending])

    @app.command()
    def faults(as_json: AsJson = False) -> None:
        """The fault rules in force, oldest first."""
        rules = get_chain().faults()
        if as_json:
            print_json(rules)
            return
        print_table(
            ("id", "kind", "op", "chance", "left", "only kind", "only nonce", "hits", "until"),
            [
                (r.id, r.kind, r.op, f"{r.probability:.0%}", "no limit" if r.times is None
                 else r.times, r.tx_kind, r.nonce, r.hits, r.until)
                for r in rules
            ],
            right=("id", "chance", "left", "only nonce", "hits"),
        )  # fmt: skip


def _facts(status: ChainStatus) -> dict[str, object]:
    options = status.options
    pace = f"every {options.block_interval_ms} ms" if options.auto_mine else "on demand"
    counts = {f"transactions {name}": count for name, count in status.transactions.items()}
    return {
        "chain": options.chain_id,
        "height": f"{status.height:,} ({pace})",
        "final height": f"{status.final_height:,} (depth {options.finality_depth})",
        "block": status.block_hash,
        "verified addresses": status.verified,
    } | counts


def _accounts(app: typer.Typer, get_chain: GetChain) -> None:
    @app.command()
    def fund(
        address: Annotated[str, typer.Argument(help="Whose account, checksummed.")],
        units: Annotated[int, typer.Option(help="Payment tokens, in units.")] = 0,
        coin: Annotated[int, typer.Option(help="The chain's own coin for fees, in units.")] = 0,
        token: Annotated[str, typer.Option(help="Which payment token.")] = "PLT",  # noqa: S107
    ) -> None:
        """Give an account payment tokens or coin (negative: take them); final a few blocks on."""
        if units == 0 and coin == 0:
            raise typer.BadParameter("give --units or --coin")
        get_chain().fund(address, token=token, token_units=units, coin_units=coin)
        typer.echo(f"{address}: {units:+,} {token}, {coin:+,} coin")

    @app.command()
    def verify(addresses: Addresses) -> None:
        """Put addresses on the whitelist of the identity registry."""
        get_chain().verify(addresses)
        typer.echo(f"verified: {len(addresses)}")

    @app.command()
    def unverify(addresses: Addresses) -> None:
        """Take addresses off the whitelist of the identity registry."""
        get_chain().unverify(addresses)
        typer.echo(f"no longer verified: {len(addresses)}")

    @app.command()
    def send(
        key: Annotated[str, typer.Option(help="The key that signs, e.g. the wallet's own.")],
        to: Annotated[str, typer.Option(help="Who is paid, checksummed.")],
        units: Annotated[int, typer.Option(help="Payment tokens, in units.")],
        token: Annotated[str, typer.Option(help="Which payment token.")] = "PLT",  # noqa: S107
        nonce: Annotated[int | None, typer.Option(help="Default: the next one.")] = None,
        fee_cap: Annotated[int, typer.Option(help="The most it may cost, in coin units.")] = 1_000,
        ref: Annotated[str | None, typer.Option(help="64 hex digits; default: random.")] = None,
    ) -> None:
        """Sign and broadcast one transfer past the program: a foreign signer at work."""
        chain, signer = get_chain(), MockSigner(key)
        if nonce is None:
            nonce = chain.next_nonce(signer.address) + len(chain.pending(signer.address))
        item = TxItem(ref or new_id().hex + new_id().hex, to, units)
        transaction = UnsignedTransaction(
            chain.chain_id(), signer.address, nonce, TxKind.TRANSFER, token, (item,), fee_cap
        )
        signed = signer.sign(transaction)
        chain.broadcast(signed)
        typer.echo(f"{signed.tx_hash} nonce {nonce} from {signer.address}")


def _blocks(app: typer.Typer, get_chain: GetChain) -> None:
    @app.command()
    def mine(
        blocks: Annotated[int, typer.Argument(min=1, help="How many blocks.")] = 1,
    ) -> None:
        """Make blocks now, with what the mempool holds."""
        typer.echo(f"height {get_chain().mine(blocks)}")

    @app.command()
    def reorg(
        depth: Annotated[int, typer.Argument(min=1, help="How many blocks to undo.")],
        drop: Annotated[
            list[str] | None, typer.Option(help="Hash to lose with its block; repeat.")
        ] = None,
        drop_all: Annotated[bool, typer.Option(help="Lose all undone transactions.")] = False,
        reinclude: Annotated[bool, typer.Option(help="Mine them again in the new branch.")] = False,
    ) -> None:
        """Undo the newest blocks and build a longer branch; deeper than finality is allowed."""
        lost = None if drop_all else drop or ()
        try:
            height = get_chain().reorg(depth, lost, reinclude=reinclude)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        typer.echo(f"height {height}")

    @app.command()
    def drop(tx_hash: Annotated[str, typer.Argument(help="A pending transaction.")]) -> None:
        """Lose a pending transaction silently, as a node under pressure does."""
        if not get_chain().drop(tx_hash):
            raise typer.BadParameter(f"{tx_hash} is not pending; see `overnight mockchain show`")
        typer.echo(f"dropped {tx_hash}")


def _faults(app: typer.Typer, get_chain: GetChain) -> None:
    @app.command()
    def fault(
        kind: Annotated[FaultKind, typer.Argument(help="What goes wrong.")],
        op: Annotated[
            str | None, typer.Option(help="Which call (broadcast, receipts, head, …; * for all).")
        ] = None,
        probability: Annotated[float, typer.Option(min=0, max=1, help="Per call.")] = 1.0,
        times: Annotated[
            int | None,
            typer.Option(
                min=0,
                help="How many calls it hits; 0: no limit. Default: 1, "
                "or no limit with --for-seconds.",
            ),
        ] = None,
        nonce: Annotated[int | None, typer.Option(help="Only this nonce.")] = None,
        tx_kind: Annotated[TxKind | None, typer.Option(help="Only this kind.")] = None,
        reason: Annotated[str | None, typer.Option(help="Text of a revert or refusal.")] = None,
        latency_ms: Annotated[int, typer.Option(min=0, help="For latency.")] = 0,
        for_seconds: Annotated[float | None, typer.Option(help="Ends after this long.")] = None,
    ) -> None:
        """Let calls fail. Example: `fault answer_lost --times 3`, `fault down --for-seconds 20`."""
        if times is None and for_seconds is None:
            times = 1
        rule_id = get_chain().fault(
            kind,
            op=op,
            probability=probability,
            times=times or None,
            nonce=nonce,
            tx_kind=tx_kind,
            reason=reason,
            latency_ms=latency_ms,
            for_seconds=for_seconds,
        )
        typer.echo(f"fault rule {rule_id}: {kind}")

    @app.command("seed-faults")
    def seed_faults(
        seed: Annotated[int, typer.Option(help="The same seed draws the same faults.")] = 1,
        rate: Annotated[float, typer.Option(min=0, max=1, help="Per call.")] = 0.05,
    ) -> None:
        """Transient faults until cleared: lost answers, lost requests, drops, latency."""
        get_chain().seed_faults(seed, rate)
        typer.echo(f"transient faults at {rate:.0%} per call, seed {seed}")

    @app.command("clear-faults")
    def clear_faults(
        kind: Annotated[FaultKind | None, typer.Argument(help="Only this kind.")] = None,
    ) -> None:
        """Forget fault rules, all of them or one kind."""
        typer.echo(f"cleared {get_chain().clear_faults(kind)} fault rules")
