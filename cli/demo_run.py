"""What the demo does: the next bond, or an unfinished one, is paid and checked.

    bond → import → mock chain → preview → trigger → embedded worker, with faults → paid
    → nothing left in the queue → reconciled, and compared with the chain's own ledger

Each step can be repeated after an interruption at any moment.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import typer

from actors.wiring import build_broker
from cli import compose, demo_bond
from cli.logs import configure_logs
from cli.mock_seeding import seed_mock_chain
from cli.output import DONE, FAILED
from cli.run_view import accounting_lines, watch
from domain.payouts import as_tokens
from jobs.embedded import EmbeddedWorker
from jobs.inprocess import InProcessBroker
from mocks.chain import MockChain
from models.database import fetch
from providers.chain import TxKind
from providers.ports import ports
from settings import Settings
from usecases.bonds import import_bond
from usecases.jobs import stats
from usecases.payouts.funds import fee_items, fee_needs
from usecases.payouts.preview import preview_maturity
from usecases.payouts.reconcile import reconcile
from usecases.payouts.trigger import trigger_maturity
from usecases.payouts.views import RunView

#: How many of the chain's calls meet a fault.
FAULT_RATE = 0.1

#: How long the demo waits for the last notifications; a later worker would do the rest.
DRAIN_WAIT_S = 20.0


def run_demo(wanted: Settings, holders: int, seed: int) -> int:
    """Pay one bond; returns the exit code. `wanted` names no database: it is private."""
    began = time.monotonic()
    _say(f"demo in {wanted.overnight_home.absolute()}")
    with compose.process(wanted) as settings, _logging_to(settings):
        chain = compose.mock_chain(settings)
        run_id = _unfinished()
        if run_id:
            _say("an earlier demo was interrupted: going on with it")
        else:
            run_id = _new_run(settings, chain, holders, seed)
        chain.clear_faults()
        chain.seed_faults(seed, FAULT_RATE)
        _say("the chain now loses answers, requests and transactions; the worker starts")
        broker = build_broker(settings)
        assert isinstance(broker, InProcessBroker)
        paying_since = time.monotonic()
        try:
            with EmbeddedWorker(broker):
                view = watch(run_id)
                _drain()
        finally:
            hits = {rule.kind.value: rule.hits for rule in chain.faults() if rule.hits}
            chain.clear_faults()
        met = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in hits.items())
        _say(f"faults met and survived: {met or 'none'}")
        return _result(view, chain, began, paying_since)


def _drain() -> None:
    """Let the worker finish what the run has left behind, such as notifications."""
    give_up_at = time.monotonic() + DRAIN_WAIT_S
    while time.monotonic() < give_up_at:
        queue = stats()
        if not (queue.waiting or queue.later or queue.published or queue.claimed):
            return
        time.sleep(0.1)


def _unfinished() -> str | None:
    """The demo's run that is under way, if there is one."""
    rows = fetch(
        "SELECT id::text FROM payout_run WHERE starts_with(bond_id, %s)"
        " AND state NOT IN ('finished', 'failed', 'cancelled') ORDER BY sequence LIMIT 1",
        (demo_bond.PREFIX,),
    )
    return str(rows[0][0]) if rows else None


def _new_run(settings: Settings, chain: MockChain, holders: int, seed: int) -> str:
    """Import, fund, preview and trigger the next bond; repeats what an interruption cut off."""
    [(triggered, today)] = fetch(
        "SELECT count(DISTINCT bond_id), overnight_now()::date FROM payout_run"
        " WHERE starts_with(bond_id, %s)",
        (demo_bond.PREFIX,),
    )
    number, matured = int(triggered) + 1, today - timedelta(days=1)
    imported = import_bond(demo_bond.bond_json(number, holders, seed, matured))
    file = imported.file
    _say(f"{file.terms.id}: {len(file.investors):,} holders, {file.tokens:,} tokens imported")
    seed_mock_chain(chain, file)
    items = sum(fee_items(investor.holdings) for investor in file.investors)
    fees = 2 * fee_needs(items)  # a batch that reverts costs its fee as well
    address = ports().signer.address
    chain.fund(address, token=file.terms.token, token_units=file.total_units, coin_units=fees)
    chain.finalize()
    preview = preview_maturity(file.terms.id)
    held = sum(1 for leg in preview.legs if leg.held)
    required, available = (
        f"{as_tokens(units, preview.token_decimals):,f}"
        for units in (preview.total_units, preview.available_units)
    )
    _say(f"preview: {held} holders are not whitelisted and would be held")
    _say(f"Required: {required} {preview.token}, Available: {available} {preview.token}")
    return trigger_maturity(file.terms.id, "demo").run_id


def _result(view: RunView, chain: MockChain, began: float, paying_since: float) -> int:
    summary, line = view.summary, view.accounting
    took = time.monotonic() - paying_since
    _say(f"run {summary.id} of {summary.bond_id} is {summary.state}")
    for text in accounting_lines(line, summary.token, summary.token_decimals):
        _say(f"  {text}")
    compared = reconcile(summary.id)
    ledger = chain.all_effects(TxKind.TRANSFER, compared.block)
    refs = {ref for (ref,) in fetch(
        "SELECT transfer_ref FROM payout_leg WHERE run_id = %s", (summary.id,)
    )}  # fmt: skip
    paid_units = [effect.units for effect in ledger if effect.ref in refs]
    on_chain = f"{as_tokens(sum(paid_units), summary.token_decimals):,f} {summary.token}"
    _say(f"the chain's own ledger: {len(paid_units):,} payments, {on_chain}")
    for finding in compared.findings:
        _say(f"  {finding}")
    agree = compared.ok and (len(paid_units), sum(paid_units)) == (line.paid.legs, line.paid.units)
    _say(f"plan, database and chain {'agree' if agree else 'DIFFER'} at block {compared.block}")
    rate = line.paid.legs / took if took else 0
    _say(f"{time.monotonic() - began:.1f} s in all, paid in {took:.1f} s ({rate:,.0f} holders/s)")
    [(notified,)] = fetch(
        "SELECT count(*) FROM payout_leg l JOIN notification n ON n.user_id = l.address"
        " AND n.dedup_key = 'maturity_paid:' || l.id WHERE l.run_id = %s",
        (summary.id,),
    )
    _say(f"notifications written: {notified:,}")
    _say(f"look closer: overnight payouts statement {summary.id[:8]}")
    return DONE if agree and summary.state == "finished" and not line.failed.legs else FAILED


@contextmanager
def _logging_to(settings: Settings) -> Iterator[None]:
    """Logs go to a file while the screen shows the run."""
    path: Path = settings.overnight_home / "demo.log"
    with path.open("a", encoding="utf-8") as log:
        configure_logs("json", settings.log_level, log)
        try:
            yield
        finally:
            configure_logs(settings.log_format, settings.log_level)


def _say(text: str) -> None:
    typer.echo(text)
