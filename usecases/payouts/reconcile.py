"""Reconcile: plan, database and chain must tell one story, at one final block.

    final block → legs as of it → effects of every ref → findings → pause, or stamped as equal

A mismatch pauses maturity payouts and says where. Settlement is never paused.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from domain.errors import InvariantBroken, Rejected
from domain.job_types import Service
from domain.payouts import (
    PlannedLeg,
    PlanTerms,
    holdings_from_json,
    leg_digest,
    leg_ref,
    plan_hash,
)
from jobs.failure import pause_service
from models.database import execute, fetch, transaction
from models.payouts import PayoutRun, Wallet
from providers.chain import ChainUnavailable, Effect, TxKind
from providers.ports import ports
from usecases.payouts.acceptance import accepted
from usecases.payouts.accounting import accounting

#: How many refs the node is asked about at once.
REFS_PER_CALL = 1_000

_LEGS = """
SELECT l.id::text, l.address, l.units, l.holdings, l.digest, l.burn_ref, l.transfer_ref, l.state,
       l.burn_height, l.burn_hash, l.paid_height, l.paid_hash,
       EXISTS (SELECT FROM operation_leg o WHERE o.leg_id = l.id AND NOT o.void
               AND o.phase = 'burn'),
       EXISTS (SELECT FROM operation_leg o WHERE o.leg_id = l.id AND NOT o.void
               AND o.phase = 'transfer')
FROM payout_leg l WHERE l.run_id = %s
"""


@dataclass(frozen=True)
class Reconciliation:
    """The outcome: `findings` name what differs and where; `block` is the final height compared."""

    ok: bool
    findings: list[str]
    block: int


@dataclass(frozen=True)
class LegRecord:
    """A leg as the database has it."""

    id: str
    planned: PlannedLeg
    digest: str
    burn_ref: str
    transfer_ref: str
    state: str
    burn: tuple[int, str] | None  # height and transaction
    payment: tuple[int, str] | None
    burn_under_way: bool
    payment_under_way: bool


def reconcile(run_id: str) -> Reconciliation:
    """Compare a run with the chain; pauses maturity payouts on any difference.

    Raises:
        NotFound: no such run.
        Rejected: it was paid on another chain than this process sees.
        ChainUnavailable: the node did not answer; nothing was concluded.
    """
    run = PayoutRun.load(run_id)
    wallet = Wallet.get_by_id(run.wallet_id)
    if ports().chain.chain_id() != wallet.chain_id:
        raise Rejected(f"run {run_id} was paid on {wallet.chain_id}: this node sees another chain")
    height = ports().chain.head().final_height
    if height < wallet.final_height:
        raise ChainUnavailable("the node is behind the last block that was final")
    # After the head: whatever the chain did up to there was intended, so its operation is seen.
    snapshot = _legs(run_id)
    legs = [_as_of(leg, height) for leg in snapshot]
    burns = _effects([leg.burn_ref for leg in legs], TxKind.BURN, height)
    payments = _effects([leg.transfer_ref for leg in legs], TxKind.TRANSFER, height)
    findings = list(_plan_findings(run, wallet, legs))
    excused = accepted(run_id)
    for leg in legs:
        burn, payment = burns.get(leg.burn_ref), payments.get(leg.transfer_ref)
        findings += _leg_findings(leg, burn, payment, leg.planned.address in excused)
    findings += _sum_findings(legs, payments)
    with transaction():
        if findings:
            reason = f"{len(findings)} differences at block {height}: {'; '.join(findings[:3])}"
            pause_service(Service.MATURITY, f"run {run_id}", reason)
        elif legs == snapshot:  # else it went on meanwhile: the next time compares all of it
            execute(
                "UPDATE payout_run SET reconciled_at = overnight_now(), reconciled_height = %s"
                " WHERE id = %s",
                (height, run_id),
            )
    return Reconciliation(not findings, findings, height)


def reconcile_open_runs() -> list[tuple[str, Reconciliation]]:
    """Reconcile every run that is under way, or finished after it was last found equal.

    Runs of another chain are left to a process that sees it.
    """
    rows = fetch(
        "SELECT r.id::text FROM payout_run r JOIN wallet w ON w.id = r.wallet_id"
        " WHERE w.chain_id = %s AND (state IN ('paying', 'stopping', 'stopped')"
        " OR (state = 'finished'"
        " AND (reconciled_at IS NULL OR reconciled_at < finished_at))) ORDER BY sequence",
        (ports().chain.chain_id(),),
    )
    return [(run_id, reconcile(run_id)) for (run_id,) in rows]


def _legs(run_id: str) -> list[LegRecord]:
    legs = []
    for row in fetch(_LEGS, (run_id,)):
        leg_id, address, units, holdings, digest, burn_ref, transfer_ref, state, *rest = row
        burn_height, burn_hash, paid_height, paid_hash, burning, paying = rest
        legs.append(
            LegRecord(
                leg_id,
                PlannedLeg(address, int(units), holdings_from_json(holdings)),
                digest,
                burn_ref,
                transfer_ref,
                state,
                None if burn_hash is None else (burn_height, burn_hash),
                None if paid_hash is None else (paid_height, paid_hash),
                burning,
                paying,
            )
        )
    return sorted(legs, key=lambda leg: leg.planned.address)


def _as_of(leg: LegRecord, height: int) -> LegRecord:
    """What was settled above `height` was still under way there."""
    if leg.payment is not None and leg.payment[0] > height:
        leg = replace(leg, payment=None, state="paying")
    if leg.burn is not None and leg.burn[0] > height:
        leg = replace(leg, burn=None)
    return leg


def _effects(refs: Sequence[str], kind: TxKind, height: int) -> dict[str, Effect]:
    found: dict[str, Effect] = {}
    for start in range(0, len(refs), REFS_PER_CALL):
        found |= ports().chain.effects(refs[start : start + REFS_PER_CALL], kind, height)
    return found


def _plan_findings(run: PayoutRun, wallet: Wallet, legs: Sequence[LegRecord]) -> Iterator[str]:
    """Is the database still what was approved, and does it add up?"""
    run_id = str(run.id)
    if run.plan_hash is None:
        return
    terms = PlanTerms(
        run.kind, run.subject, run.config_version, run.record_date, wallet.chain_id,
        wallet.address, run.token,
    )  # fmt: skip
    approved = run.approved_hash
    if approved is None and all(leg.state in ("planned", "failed") for leg in legs):
        approved = run.plan_hash  # it waits for a second person, and nothing was done yet
    if not plan_hash(terms, [leg.planned for leg in legs]) == run.plan_hash == approved:
        yield f"run {run_id}: its legs are not the plan that was approved"
    for leg in legs:
        place = (wallet.chain_id, wallet.environment_id, run_id, leg.planned.address)
        refs = leg_ref(*place, "burn"), leg_ref(*place, "transfer")
        if refs != (leg.burn_ref, leg.transfer_ref):
            yield f"leg {leg.id} of {leg.planned.address}: its refs were changed"
        if leg_digest(run_id, leg.planned, *refs) != leg.digest:
            yield f"leg {leg.id} of {leg.planned.address}: it is not what was approved"
    try:
        accounting(run_id)
    except InvariantBroken as broken:
        yield str(broken)


def _leg_findings(
    leg: LegRecord, burn: Effect | None, payment: Effect | None, is_excused: bool
) -> list[str]:
    """Did the chain do for this holder exactly what the database says, and nothing else?"""
    planned = leg.planned
    tokens = sum(balance for _, balance in planned.holdings)
    problems = [
        _difference("burn", planned.address, tokens, leg.burn, leg.burn_under_way, burn),
        _difference(
            "payment", planned.address, planned.units, leg.payment, leg.payment_under_way, payment
        ),
        "paid, but never burned" if leg.payment and not leg.burn and not is_excused else None,
        "state and payment disagree" if (leg.state == "paid") != bool(leg.payment) else None,
    ]
    return [f"leg {leg.id} of {planned.address} ({leg.state}): {p}" for p in problems if p]


def _difference(
    what: str,
    address: str,
    units: int,
    recorded: tuple[int, str] | None,
    under_way: bool,
    effect: Effect | None,
) -> str | None:
    if effect is None:
        return f"{what} {recorded[1]} is not on chain" if recorded else None
    if recorded is None and not under_way:
        return f"an unknown {what} of {effect.units} units in {effect.tx_hash}"
    if (effect.address, effect.units) != (address, units):
        return f"{what} of {effect.units} to {effect.address}, planned {units} to {address}"
    if recorded is not None and recorded != (effect.height, effect.tx_hash):
        return f"{what} recorded as {recorded[1]}, on chain it is {effect.tx_hash}"
    return None


def _sum_findings(legs: Sequence[LegRecord], payments: dict[str, Effect]) -> list[str]:
    """Paid legs and the ledger, to the last unit."""
    paid = [leg for leg in legs if leg.payment]
    recorded = sum(leg.planned.units for leg in paid)
    on_chain = sum(payments[r].units for leg in paid if (r := leg.transfer_ref) in payments)
    if recorded == on_chain:
        return []
    return [f"database paid {recorded} units, chain {on_chain}"]
