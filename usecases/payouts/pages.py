"""Pages: how a run's legs are given to workers, some hundred at a time.

    open_pages → one pipeline per page: token_burn → plt_transfer (parked) → record (parked)
    work_page  → whitelist and balances (outside) → intents → sign → broadcast → complete

A page may be worked twice, by two workers, or be taken over in the middle: every leg is looked at
again under the wallet's lock, and has at most one live operation per phase.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from domain.errors import InvariantBroken, Postponed
from domain.ids import new_id
from domain.job_types import JobType
from domain.payouts import PlannedLeg, holdings_from_json, leg_digest
from jobs.claim import current_claim
from jobs.enqueue import enqueue
from models.bulk import change_rows
from models.database import execute, fetch
from models.payouts import PayoutRun, Wallet
from providers.chain import TxKind
from providers.ports import policy
from usecases.payouts.funds import lacking, read_balances
from usecases.payouts.holders import Findings, WaitingLeg, look_at_holders
from usecases.payouts.operations import DueLeg, Intended, has_room, intend, note_sent, send, sign
from usecases.payouts.wallets import (
    Sight,
    halted,
    lock_and_judge,
    look_to_sign,
    postpone_if_halted,
)

#: The window of open nonces is full: blocks come every second or slower.
WINDOW_DELAY = timedelta(seconds=0.5)
#: A wallet that cannot pay for what it promised: payments that are final free some, or a top-up.
SHORT_DELAY = timedelta(seconds=5)

#: Legs of a page that wait for this phase. A burn counts only when it is final.
#: OFFSET 0 keeps each look at one leg's operations an index probe: a page must not cost more for
#: the run's other pages.
_WAITING = {
    TxKind.BURN: """
        FROM payout_leg l
        WHERE l.page_id = %(page)s AND l.state = 'planned' AND NOT EXISTS (
            SELECT FROM operation_leg ol WHERE ol.leg_id = l.id AND NOT ol.void OFFSET 0)
    """,
    TxKind.TRANSFER: """
        FROM payout_leg l
        WHERE l.page_id = %(page)s AND l.state = 'burned' AND EXISTS (
            SELECT FROM operation_leg b JOIN chain_operation o ON o.id = b.operation_id
            WHERE b.leg_id = l.id AND b.phase = 'burn' AND NOT b.void AND o.state = 'settled'
            OFFSET 0)
        AND NOT EXISTS (
            SELECT FROM operation_leg ol
            WHERE ol.leg_id = l.id AND ol.phase = 'transfer' AND NOT ol.void OFFSET 0)
    """,
}
#: What is paid by a leg never changes once it is planned, so it is read before anything is locked.
#: Whether it waits is only a hint here: it is asked under the wallet's lock.
_LEGS = """
SELECT id::text, address, units, holdings::text, digest, burn_ref, transfer_ref
FROM payout_leg WHERE page_id = %s AND state = %s ORDER BY id
"""
_BUSY = "SELECT count(*) FROM payout_leg WHERE page_id = %s AND state = %s"
_OPERATIONS = """
SELECT DISTINCT o.id::text, o.state, o.last_broadcast_at IS NULL
FROM payout_leg l CROSS JOIN LATERAL (
    SELECT operation_id FROM operation_leg
    WHERE leg_id = l.id AND phase = %s AND NOT void OFFSET 0) ol
JOIN chain_operation o ON o.id = ol.operation_id
WHERE l.page_id = %s AND o.state IN ('intent', 'signed')
"""


@dataclass(frozen=True)
class _Ready:
    """What was read for a page before anything is locked."""

    legs: list[WaitingLeg]
    findings: Findings
    lack: str | None  # of the wallet, for a burn: nothing more is burned then


def plan_pages(run_id: str, legs: int, phase: str = "burn") -> list[str]:
    """Add pages for so many legs, in the open transaction; returns the page of each, in order.

    No pipeline works on them before they are opened.
    """
    size = policy().page_legs
    [(last,)] = fetch(
        "SELECT coalesce(max(number), 0) FROM payout_page WHERE run_id = %s", (run_id,)
    )
    page_ids = [str(new_id()) for _ in range(0, legs, size)]
    change_rows(
        "INSERT INTO payout_page (id, run_id, number, phase) VALUES %s",
        [
            (page_id, run_id, number, phase)
            for number, page_id in enumerate(page_ids, start=int(last) + 1)
        ],
    )
    return [page_ids[place // size] for place in range(legs)]


def open_planned(run: PayoutRun) -> list[str]:
    """Give the legs of a plan their pipelines, in the transaction; returns the pages.

    Once: who still waits when a run is resumed gets another page.
    """
    pages = fetch(
        "SELECT id::text FROM payout_page WHERE run_id = %s AND opened_at IS NULL ORDER BY number",
        (run.id,),
    )
    page_ids = [str(page_id) for (page_id,) in pages]
    _start(run, page_ids, "burn")
    return page_ids


def open_pages(run: PayoutRun, leg_ids: Sequence[str], phase: str) -> None:
    """Give legs pages of their own, with a pipeline that starts at `phase`, in the transaction."""
    if not leg_ids:
        return
    pages = plan_pages(str(run.id), len(leg_ids), phase)
    execute(
        "UPDATE payout_leg l SET page_id = v.page_id"
        " FROM unnest(%s::uuid[], %s::uuid[]) AS v (leg_id, page_id) WHERE l.id = v.leg_id",
        (list(leg_ids), pages),
    )
    _start(run, list(dict.fromkeys(pages)), phase)


def _start(run: PayoutRun, page_ids: Sequence[str], phase: str) -> None:
    execute(
        "UPDATE payout_page SET opened_at = overnight_now() WHERE id = ANY(%s::uuid[])",
        (list(page_ids),),
    )
    for page_id in page_ids:
        record = JobType.MATURITY_RECORD.message(page_id, parked=True)
        if phase == "burn":
            transfer = JobType.MATURITY_PLT_TRANSFER.message(page_id, parked=True)
            steps = JobType.MATURITY_TOKEN_BURN.message(page_id) | transfer | record
        else:
            steps = JobType.MATURITY_PLT_TRANSFER.message(page_id) | record
        enqueue(steps, dedup_key=f"page:{page_id}", correlation=run.correlation)


def work_page(page_id: str, kind: TxKind) -> None:
    """Sign and send one phase of a page's legs; done when each is held or its bytes are stored.

    Raises:
        Postponed: the wallet is halted, lacks what it promised (nothing more is burned then), or
            its window of open nonces is full.
        InvariantBroken: a leg or its run is not what was approved.
    """
    claim = current_claim()
    run_id, contract = _page(page_id, kind)
    run = PayoutRun.load(run_id)
    wallet = Wallet.get_by_id(run.wallet_id)
    sight = look_to_sign(wallet)
    legs = _waiting(page_id, kind) if has_room(wallet.id) else []
    for leg in legs:
        _check_digest(run_id, leg)
    findings = look_at_holders(legs, kind, contract, sight.head.final_height)
    lack = None  # a payment's fee was reserved before its burn
    if legs and kind is TxKind.BURN:
        balances = read_balances(wallet.address, run.token, sight.head.final_height)
        lack = lacking(wallet.id, run.token, run.token_decimals, balances)
    ready = _Ready(legs, findings, lack)
    with claim.transaction():
        wallet, complete, taken = _commit_intents(run, page_id, kind, contract, sight, ready)
    postpone_if_halted(wallet)
    if lack is not None:
        raise Postponed(lack, SHORT_DELAY)
    operations = _operations(page_id, kind, taken)
    intents = [each for each, state, _ in operations if state == "intent"]
    signed = sign(wallet.id, intents, claim.transaction)
    sent = send([each for each, _, unsent in operations if unsent])
    obstacle = None
    if signed < len(intents):
        obstacle = _unsigned(page_id, kind, wallet.id)
    if obstacle is None and not complete:
        obstacle = _without_room(run_id, page_id, kind)
    with claim.transaction() if obstacle else claim.completion():
        Wallet.lock(wallet.id)
        note_sent(sent)
    if obstacle:
        raise obstacle


def _operations(page_id: str, kind: TxKind, taken: Intended) -> list[tuple[str, str, bool]]:
    """Operations of a page's legs that are to be signed or sent: (id, state, is unsent).

    Those that were intended just now; only a page with more legs under way is searched for what an
    earlier try has left.
    """
    [(busy,)] = fetch(_BUSY, (page_id, "burning" if kind is TxKind.BURN else "paying"))
    if busy == len(taken.leg_ids):
        return [(operation_id, "intent", True) for operation_id in taken.operation_ids]
    return [
        (str(operation_id), str(state), bool(unsent))
        for operation_id, state, unsent in fetch(_OPERATIONS, (kind.value, page_id))
    ]


def _unsigned(page_id: str, kind: TxKind, wallet_id: int) -> Postponed | None:
    """Why intents of the page are not signed; None if somebody else did it."""
    if all(state != "intent" for _, state, _ in fetch(_OPERATIONS, (kind.value, page_id))):
        return None
    wallet = Wallet.get_by_id(wallet_id)
    if wallet.halted_at is not None:
        return halted(wallet)
    return Postponed("waits for its transactions to be signed", WINDOW_DELAY)


def _without_room(run_id: str, page_id: str, kind: TxKind) -> Postponed | None:
    """Legs still wait that did not fit into the window. What falls back later is for the sweep.

    A run that was stopped completes its pages: when it goes on, the sweep finds its legs.
    """
    if PayoutRun.load(run_id).state != "paying":
        return None
    if not fetch(f"SELECT 1 {_WAITING[kind]} LIMIT 1", {"page": page_id}):
        return None
    return Postponed("waits for room in the window of open nonces", WINDOW_DELAY)


def _page(page_id: str, kind: TxKind) -> tuple[str, str]:
    """The page's run, and the contract that this phase calls."""
    [(run_id, contract, token)] = fetch(
        "SELECT r.id::text, b.contract, r.token FROM payout_page p"
        " JOIN payout_run r ON r.id = p.run_id JOIN bond b ON b.id = r.bond_id WHERE p.id = %s",
        (page_id,),
    )
    return run_id, contract if kind is TxKind.BURN else token


def _waiting(page_id: str, kind: TxKind) -> list[WaitingLeg]:
    return [
        WaitingLeg(leg_id, address, int(units), holdings_from_json(json.loads(holdings)), *rest)
        for leg_id, address, units, holdings, *rest in fetch(
            _LEGS, (page_id, "planned" if kind is TxKind.BURN else "burned")
        )
    ]


def _commit_intents(
    seen: PayoutRun, page_id: str, kind: TxKind, contract: str, sight: Sight, ready: _Ready
) -> tuple[Wallet, bool, Intended]:
    """Hold who cannot be worked, and commit to transactions for the others, in the transaction.

    Returns the wallet, whether nobody of the page waits any more, and what was intended.

    Whether a leg still waits is asked again, under the wallet's lock; what it is paid never
    changes. Nothing is intended when the wallet lacks something: a reverted transaction's fee was
    reserved for another.
    """
    items = {leg.id: leg.items(kind) for leg in ready.legs}
    run_id, news = str(seen.id), kind is TxKind.BURN and seen.note != ready.lack
    run = PayoutRun.lock(run_id) if news else PayoutRun.hold(run_id)
    wallet = lock_and_judge(run.wallet_id, sight)
    if wallet.halted_at is not None or not items or run.state != "paying":
        return wallet, False, Intended()  # a run that was stopped signs nothing more
    if run.reserved_at is None or run.approved_hash is None or run.approved_hash != run.plan_hash:
        raise InvariantBroken(f"run {run_id} is {run.state}: it has no approved, reserved plan")
    if news:
        execute("UPDATE payout_run SET note = %s WHERE id = %s", (ready.lack, run_id))
    alone = dict(fetch(f"SELECT l.id::text, l.alone {_WAITING[kind]}", {"page": page_id}))
    held, due = [], []
    for leg in ready.legs:
        if leg.id not in alone:
            continue  # another worker took it
        reason = ready.findings.reason_to_hold(leg.address)
        if reason is None:
            due.append(DueLeg(leg.id, items[leg.id], alone[leg.id]))
        else:
            held.append((leg.id, reason))
    if held:
        change_rows(
            "UPDATE payout_leg l SET state = 'held', reason = v.reason"
            " FROM (VALUES %s) v (id, reason) WHERE l.id = v.id::uuid",
            held,
        )
    if ready.lack is not None:
        return wallet, False, Intended()
    taken = intend(run, wallet, kind, contract, due)
    return wallet, len(held) + len(taken.leg_ids) == len(alone), taken


def _check_digest(run_id: str, leg: WaitingLeg) -> None:
    planned = PlannedLeg(leg.address, leg.units, leg.holdings)
    if leg_digest(run_id, planned, leg.burn_ref, leg.transfer_ref) != leg.digest:
        raise InvariantBroken(f"leg {leg.id} of run {run_id} is not what was approved")
