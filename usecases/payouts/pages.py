"""Pages: how a run's legs are given to workers, some hundred at a time.

    open_pages → one pipeline per page: token_burn → plt_transfer (parked) → record (parked)
    work_page  → whitelist and balances (outside) → intents → sign → broadcast → complete

A page may be worked twice, by two workers, or be taken over in the middle: every leg is looked at
again under the wallet's lock, and has at most one live operation per phase.
"""

from collections.abc import Sequence
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
from usecases.payouts.funds import Balances, lacking, read_balances
from usecases.payouts.holders import Findings, WaitingLeg, look_at_holders
from usecases.payouts.operations import DueLeg, broadcast, has_room, intend, sign
from usecases.payouts.wallets import Sight, lock_and_judge, look_to_sign, postpone_if_halted

#: The window of open nonces is full: blocks come every second or slower.
WINDOW_DELAY = timedelta(seconds=0.5)
#: A wallet that cannot pay for what it promised: payments that are final free some, or a top-up.
SHORT_DELAY = timedelta(seconds=5)

#: Legs of a page that wait for this phase. A burn counts only when it is final.
_WAITING = {
    TxKind.BURN: """
        SELECT l.id::text, l.address, l.units, l.holdings, l.digest, l.burn_ref, l.transfer_ref,
               l.alone
        FROM payout_leg l
        WHERE l.page_id = %s AND l.state = 'planned' AND NOT EXISTS (
            SELECT FROM operation_leg ol WHERE ol.leg_id = l.id AND NOT ol.void)
        ORDER BY l.id
    """,
    TxKind.TRANSFER: """
        SELECT l.id::text, l.address, l.units, l.holdings, l.digest, l.burn_ref, l.transfer_ref,
               l.alone
        FROM payout_leg l
        JOIN operation_leg b ON b.leg_id = l.id AND b.phase = 'burn' AND NOT b.void
        JOIN chain_operation o ON o.id = b.operation_id AND o.state = 'settled'
        WHERE l.page_id = %s AND l.state = 'burned' AND NOT EXISTS (
            SELECT FROM operation_leg ol
            WHERE ol.leg_id = l.id AND ol.phase = 'transfer' AND NOT ol.void)
        ORDER BY l.id
    """,
}


def open_pages(run: PayoutRun, leg_ids: Sequence[str], phase: str) -> None:
    """Give legs pages of their own, with a pipeline that starts at `phase`, in the transaction."""
    size = policy().page_legs
    [(last,)] = fetch(
        "SELECT coalesce(max(number), 0) FROM payout_page WHERE run_id = %s", (run.id,)
    )
    for number, start in enumerate(range(0, len(leg_ids), size), start=int(last) + 1):
        page_id = str(new_id())
        execute(
            "INSERT INTO payout_page (id, run_id, number, phase) VALUES (%s, %s, %s, %s)",
            (page_id, run.id, number, phase),
        )
        execute(
            "UPDATE payout_leg SET page_id = %s WHERE id = ANY(%s::uuid[])",
            (page_id, list(leg_ids[start : start + size])),
        )
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
    height = sight.head.final_height
    findings = look_at_holders(legs, kind, contract, height)
    balances = None  # a payment's fee was reserved before its burn
    if legs and kind is TxKind.BURN:
        balances = read_balances(wallet.address, run.token, height)
    with claim.transaction():
        wallet, lack = _commit_intents(run_id, page_id, kind, contract, sight, findings, balances)
    postpone_if_halted(wallet)
    if lack is not None:
        raise Postponed(lack, SHORT_DELAY)
    sign(wallet.id, _operations(page_id, kind, "o.state = 'intent'"), claim.transaction)
    unsent = "o.state = 'signed' AND o.last_broadcast_at IS NULL"
    broadcast(wallet.id, _operations(page_id, kind, unsent))
    with claim.completion():
        run = PayoutRun.lock(run_id)
        wallet = Wallet.lock(wallet.id)
        if _operations(page_id, kind, "o.state = 'intent'"):
            postpone_if_halted(wallet)
            raise Postponed("waits for its transactions to be signed", WINDOW_DELAY)
        if run.state != "paying":
            return  # stopped: when it goes on, the sweep gives its legs another page
        if fetch(f"SELECT 1 FROM ({_WAITING[kind]}) l LIMIT 1", (page_id,)):  # noqa: S608
            raise Postponed("waits for room in the window of open nonces", WINDOW_DELAY)


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
        WaitingLeg(leg_id, address, int(units), holdings_from_json(holdings), *rest)
        for leg_id, address, units, holdings, *rest in fetch(_WAITING[kind], (page_id,))
    ]


def _operations(page_id: str, kind: TxKind, condition: str) -> list[str]:
    """The live operations that this phase has for the page's legs, of some state."""
    rows = fetch(
        "SELECT DISTINCT o.id::text FROM payout_leg l"  # noqa: S608 - our own conditions
        " JOIN operation_leg ol ON ol.leg_id = l.id AND ol.phase = %s AND NOT ol.void"
        f" JOIN chain_operation o ON o.id = ol.operation_id WHERE l.page_id = %s AND {condition}",
        (kind.value, page_id),
    )
    return [operation_id for (operation_id,) in rows]


def _commit_intents(
    run_id: str,
    page_id: str,
    kind: TxKind,
    contract: str,
    sight: Sight,
    findings: Findings,
    balances: Balances | None,
) -> tuple[Wallet, str | None]:
    """Hold who cannot be worked, and commit to transactions for the others, in the transaction.

    Returns the wallet, and what it lacks: a reverted transaction's fee was reserved for another.
    """
    run = PayoutRun.lock(run_id)
    wallet = lock_and_judge(run.wallet_id, sight)
    legs = [leg for leg in _waiting(page_id, kind) if leg.address in findings.known]
    if wallet.halted_at is not None or not legs or run.state != "paying":
        return wallet, None  # a run that was stopped signs nothing more
    if run.reserved_at is None or run.approved_hash is None or run.approved_hash != run.plan_hash:
        raise InvariantBroken(f"run {run_id} is {run.state}: it has no approved, reserved plan")
    held, due = [], []
    for leg in legs:
        _check_digest(run_id, leg)
        reason = findings.reason_to_hold(leg.address)
        if reason is None:
            due.append(DueLeg(leg.id, leg.items(kind), leg.alone))
        else:
            held.append((leg.id, reason))
    if held:
        change_rows(
            "UPDATE payout_leg l SET state = 'held', reason = v.reason"
            " FROM (VALUES %s) v (id, reason) WHERE l.id = v.id::uuid",
            held,
        )
    lack = None
    if due and balances is not None:
        lack = lacking(wallet.id, run.token, run.token_decimals, balances)
        note = "UPDATE payout_run SET note = %s WHERE id = %s AND note IS DISTINCT FROM %s"
        execute(note, (lack, run_id, lack))
    if lack is None:
        intend(run, wallet, kind, contract, due)
    return wallet, lack


def _check_digest(run_id: str, leg: WaitingLeg) -> None:
    planned = PlannedLeg(leg.address, leg.units, leg.holdings)
    if leg_digest(run_id, planned, leg.burn_ref, leg.transfer_ref) != leg.digest:
        raise InvariantBroken(f"leg {leg.id} of run {run_id} is not what was approved")
