"""Whose transaction is this? Found by the refs that it carries, and imported as an operation.

    transaction found on chain → refs → legs of one run, exactly as planned → operation + its legs
                                      → else why not, for a person

A transaction is ours only if every item is what the leg's own plan says, to the last unit.
Everything runs under the wallet's lock, in the open transaction. What is final is settled at once.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from psycopg2 import Binary

from domain.ids import new_id
from domain.payouts import holdings_from_json, is_leg_ref, run_of_ref
from models.bulk import change_rows
from models.database import execute, fetch
from models.payouts import Wallet
from providers.chain import Head, KnownTransaction, TxItem, TxKind, UnsignedTransaction
from usecases.payouts.operations import digest_of
from usecases.payouts.verdict import Found, Verdict, write

_LEGS = """
SELECT l.id::text, l.{ref}, l.address, l.units, l.holdings, l.state, l.burn_height IS NOT NULL,
       l.run_id::text, r.state, CASE %(kind)s WHEN 'burn' THEN b.contract ELSE r.token END,
       (SELECT o.nonce FROM operation_leg ol JOIN chain_operation o ON o.id = ol.operation_id
        WHERE ol.leg_id = l.id AND ol.phase = %(kind)s AND NOT ol.void)
FROM payout_leg l JOIN payout_run r ON r.id = l.run_id JOIN bond b ON b.id = r.bond_id
WHERE l.{ref} = ANY(%(refs)s) AND r.wallet_id = %(wallet)s
"""

_TAKE_LEGS = """
UPDATE payout_leg SET state = %s, reason = NULL WHERE id = ANY(%s::uuid[])
"""

_UNWIND = """
WITH gone AS (
    UPDATE operation_leg SET void = true WHERE operation_id = %s AND NOT void
    RETURNING leg_id, phase
)
UPDATE payout_leg l SET state = CASE g.phase WHEN 'burn' THEN 'planned' ELSE 'burned' END
FROM gone g
WHERE l.id = g.leg_id AND l.state = CASE g.phase WHEN 'burn' THEN 'burning' ELSE 'paying' END
"""


class NotMatched(Exception):
    """Why a transaction can't be imported (yet). Ends in a report, never leaves the use cases."""


@dataclass(frozen=True)
class MatchedLeg:
    """A leg that a transaction names by its ref."""

    id: str
    ref: str
    items: frozenset[TxItem]
    state: str
    is_burned: bool
    run_id: str
    run_state: str
    contract: str
    live_nonce: int | None


@dataclass(frozen=True)
class Occupant:
    """The operation that has a nonce."""

    id: str
    state: str
    unsigned: str


def match(wallet: Wallet, transaction: UnsignedTransaction) -> list[MatchedLeg]:
    """The legs of one run that this transaction burns or pays, all of them, exactly as planned.

    Raises:
        NotMatched: it does something else, or something that this database does not know.
    """
    if not transaction.items:
        raise NotMatched("it is empty: it moves nothing, and only used the nonce")
    refs = sorted({item.ref for item in transaction.items})
    legs = _legs(wallet, transaction.kind, refs)
    unknown = set(refs) - {leg.ref for leg in legs}
    if unknown:
        raise NotMatched(_stranger(wallet, transaction, sorted(unknown)))
    for leg in legs:
        items = frozenset(item for item in transaction.items if item.ref == leg.ref)
        if items != leg.items or leg.contract != transaction.contract:
            raise NotMatched(f"it does not do what leg {leg.id} was planned to: it is not ours")
    if len({leg.run_id for leg in legs}) > 1:
        raise NotMatched("it pays legs of several runs: it is not ours")
    return legs


def import_transaction(wallet: Wallet, known: KnownTransaction, head: Head) -> int:
    """Make a transaction that was found an operation of ours; returns how many legs it has.

    What is final is settled at once, what is not is left to settlement.

    Raises:
        NotMatched: not ours, or something else must become final first.
    """
    legs = match(wallet, known.transaction)
    run_state = legs[0].run_state
    if run_state in ("failed", "cancelled"):
        raise NotMatched(f"run {legs[0].run_id} is {run_state}: it should never have signed")
    occupant = occupant_of(wallet.id, known.transaction.nonce)
    if occupant is not None and _is_same(occupant, known.transaction):
        add_hash(occupant.id, known)
        return len(legs)
    is_reverted = _is_final(known, head) and not (known.receipt and known.receipt.succeeded)
    if not is_reverted:
        _check_legs(legs, known.transaction.kind, occupant)
    if occupant is not None:
        displace(occupant, known, head)
    run_id = legs[0].run_id
    operation_id = insert_operation(wallet, known, run_id)
    kind = known.transaction.kind.value
    rows = [(operation_id, leg.id, kind, is_reverted) for leg in legs]
    change_rows("INSERT INTO operation_leg (operation_id, leg_id, phase, void) VALUES %s", rows)
    ids = [leg.id for leg in legs]
    if is_reverted:  # as settlement would: a batch that reverted is done one by one
        execute("UPDATE payout_leg SET alone = true WHERE id = ANY(%s::uuid[])", (ids,))
    else:
        execute(_TAKE_LEGS, ("burning" if kind == "burn" else "paying", ids))
    execute(
        "UPDATE payout_run SET state = 'paying', finished_at = NULL"
        " WHERE id = %s AND state = 'finished'",
        (run_id,),
    )
    settle_found(wallet.id, operation_id, known, head)
    return len(legs)


def insert_operation(wallet: Wallet, known: KnownTransaction, run_id: str | None) -> str:
    """An operation, signed, for a transaction that somebody signed already."""
    operation_id, text = str(new_id()), known.transaction.to_json()
    execute(
        "INSERT INTO chain_operation (id, wallet_id, run_id, nonce, kind, state, unsigned, digest)"
        " VALUES (%s, %s, %s, %s, %s, 'signed', %s, %s)",
        (
            operation_id, wallet.id, run_id, known.transaction.nonce, known.transaction.kind.value,
            text, digest_of(text),
        ),
    )  # fmt: skip
    add_hash(operation_id, known)
    return operation_id


def add_hash(operation_id: str, known: KnownTransaction) -> None:
    """One more hash to watch for an operation; an intent has bytes now."""
    execute(
        "INSERT INTO chain_transaction (tx_hash, operation_id, raw, fee_cap_units, signed_at)"
        " VALUES (%s, %s, %s, %s, overnight_now())"
        " ON CONFLICT (tx_hash) DO UPDATE SET operation_id = excluded.operation_id",
        (known.tx_hash, operation_id, Binary(known.raw), known.transaction.fee_cap_units),
    )
    execute(
        "UPDATE chain_operation SET state = 'signed' WHERE id = %s AND state = 'intent'",
        (operation_id,),
    )


def settle_found(wallet_id: int, operation_id: str, known: KnownTransaction, head: Head) -> None:
    """Write what the receipt of a transaction says, if it is final.

    Raises:
        NotMatched: its legs are somewhere else in the line.
    """
    if not _is_final(known, head):
        return
    assert known.receipt is not None
    found = Found(operation_id, known.receipt.height, known.tx_hash, None)
    if known.receipt.succeeded:
        problems = write(wallet_id, Verdict(settled=[found]), head)
    else:
        reason = known.receipt.revert_reason or "no reason given"
        problems = write(wallet_id, Verdict(void=[replace(found, reason=reason)]), head)
    if problems:
        raise NotMatched("; ".join(problems))


def occupant_of(wallet_id: int, nonce: int) -> Occupant | None:
    """Our operation at a nonce, if there is one."""
    rows = fetch(
        "SELECT id::text, state, unsigned FROM chain_operation"
        " WHERE wallet_id = %s AND nonce = %s AND NOT displaced",
        (wallet_id, nonce),
    )
    return Occupant(*rows[0]) if rows else None


def displace(occupant: Occupant, known: KnownTransaction, head: Head) -> None:
    """Void our operation whose nonce another transaction consumed; its legs are in line again.

    Raises:
        NotMatched: that transaction is not final, or our operation is at its end already.
    """
    nonce = known.transaction.nonce
    if not _is_final(known, head):
        raise NotMatched(f"it takes nonce {nonce} from our own operation, and is not final yet")
    unwind(occupant, f"nonce {nonce} was used by {known.tx_hash}")


def unwind(occupant: Occupant, reason: str) -> None:
    """The same, for a transaction that the node does not show any more. Raises NotMatched."""
    if occupant.state in ("settled", "void"):
        raise NotMatched("our own operation of that nonce is final: one of both can't be")
    execute(
        "UPDATE chain_operation SET state = 'void', displaced = true, void_reason = %s,"
        " mined_height = NULL, mined_hash = NULL WHERE id = %s",
        (reason, occupant.id),
    )
    execute(_UNWIND, (occupant.id,))


def _is_final(known: KnownTransaction, head: Head) -> bool:
    return known.receipt is not None and known.receipt.height <= head.final_height


def _is_same(occupant: Occupant, transaction: UnsignedTransaction) -> bool:
    """Whether only the fee differs: a replacement that this database forgot."""
    ours = UnsignedTransaction.from_json(occupant.unsigned)
    return replace(ours, fee_cap_units=transaction.fee_cap_units) == transaction


def _check_legs(legs: Sequence[MatchedLeg], kind: TxKind, occupant: Occupant | None) -> None:
    """Raises NotMatched for a leg that is somewhere else in the line."""
    nonce = None if occupant is None else UnsignedTransaction.from_json(occupant.unsigned).nonce
    for leg in legs:
        if leg.live_nonce is not None and leg.live_nonce != nonce:
            raise NotMatched(
                f"leg {leg.id} has another {kind} at nonce {leg.live_nonce}: adopt again when that"
                " is final"
            )
        if leg.is_burned != (kind is TxKind.TRANSFER):
            what = "is burned already" if leg.is_burned else "has no final burn here yet"
            raise NotMatched(f"leg {leg.id} {what}")


def _legs(wallet: Wallet, kind: TxKind, refs: Sequence[str]) -> list[MatchedLeg]:
    column = "burn_ref" if kind is TxKind.BURN else "transfer_ref"
    rows = fetch(
        _LEGS.format(ref=column), {"kind": kind.value, "refs": list(refs), "wallet": wallet.id}
    )
    legs = []
    for leg_id, ref, address, units, stored, *rest in rows:
        holdings = holdings_from_json(stored if isinstance(stored, list) else json.loads(stored))
        items = (
            frozenset(TxItem(ref, address, balance, token) for token, balance in holdings)
            if kind is TxKind.BURN
            else frozenset([TxItem(ref, address, int(units))])
        )
        legs.append(MatchedLeg(leg_id, ref, items, *rest))
    return legs


def _stranger(wallet: Wallet, transaction: UnsignedTransaction, refs: Sequence[str]) -> str:
    """Why no leg has these refs; names the run if it was one of this environment."""
    item = next(item for item in transaction.items if item.ref == refs[0])
    place = (wallet.chain_id, wallet.environment_id, item.address, transaction.kind.value)
    if not is_leg_ref(item.ref, *place):
        return f"it belongs to no run of environment {wallet.environment_id!r}"
    run_id = run_of_ref(item.ref)
    if fetch("SELECT 1 FROM payout_run WHERE id = %s", (run_id,)):
        return f"run {run_id} has no such leg yet: adopt again when it is planned"
    bonds = fetch("SELECT id FROM bond WHERE contract = %s", (transaction.contract,))
    bond = str(bonds[0][0]) if bonds else "BOND"
    return (
        f"run {run_id} is not in this database: bring it back with "
        f"`overnight maturity trigger {bond} --run-id {run_id}`, and adopt again"
    )
