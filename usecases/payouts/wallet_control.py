"""What a person does with the wallet: halt it, explain a nonce with four eyes, let it sign again.

halt → (adopt, resolve, resolve by a second person) → resume, when nothing contradicts
"""

from dataclasses import dataclass

from domain.errors import InvalidInput, Rejected
from domain.ids import new_id
from models.database import execute, fetch, transaction
from models.payouts import Wallet
from providers.chain import KnownTransaction, TxKind, UnsignedTransaction
from usecases.payouts import wallets
from usecases.payouts.adoption import Picture, advance, look_closely, our_wallet
from usecases.payouts.decisions import decide, is_same_person, person_named
from usecases.payouts.matching import (
    NotMatched,
    Occupant,
    displace,
    insert_operation,
    match,
    occupant_of,
    settle_found,
    unwind,
)
from usecases.payouts.operations import digest_of

#: People who must say the same of a nonce.
EYES = 2

#: Legs that are not where their open operation put them.
_MISPLACED = """
SELECT count(*) FROM chain_operation o
JOIN operation_leg ol ON ol.operation_id = o.id AND NOT ol.void
JOIN payout_leg l ON l.id = ol.leg_id
WHERE o.wallet_id = %s AND o.state IN ('intent', 'signed', 'mined')
  AND l.state <> CASE o.kind WHEN 'burn' THEN 'burning' ELSE 'paying' END
  AND NOT (o.kind = 'burn' AND l.state IN ('paying', 'paid') AND l.burn_hash IS NULL)
"""

_OPEN_HASHES = """
SELECT o.nonce, coalesce(array_agg(t.tx_hash) FILTER (WHERE t.tx_hash IS NOT NULL), '{}')
FROM chain_operation o LEFT JOIN chain_transaction t ON t.operation_id = o.id
WHERE o.wallet_id = %s AND o.state NOT IN ('settled', 'void') GROUP BY o.id ORDER BY o.nonce
"""


@dataclass(frozen=True)
class Resolution:
    """A nonce that people explain: `applied` once two of them said the same."""

    nonce: int
    tx_hash: str
    people: list[str]
    applied: bool


def halt_wallet(by: str, reason: str) -> str:
    """Stop every new signature until somebody resumes; returns the reason in force.

    Raises:
        Rejected: no such wallet.
        InvalidInput: no name, or no reason.
    """
    person, why = person_named(by), " ".join(reason.split())
    if not why:
        raise InvalidInput("say why: --reason TEXT")
    wallet = our_wallet()
    with transaction():
        wallet = Wallet.lock(wallet.id)
        if wallet.halted_at is None:
            wallets.halt(wallet.id, f"{why} (by {person})")
        decide("halt", person, wallet_id=wallet.id, note=why)
        return str(Wallet.lock(wallet.id).halt_reason)


def resume_wallet(by: str) -> bool:
    """Let a halted wallet sign again; False when it was not halted.

    Raises:
        Rejected: something still contradicts; the message says what to do about it.
        ChainUnavailable: the node did not answer.
    """
    person = person_named(by)
    wallet = our_wallet()
    picture = look_closely(wallet)
    with transaction():
        wallet = Wallet.lock(wallet.id)
        if wallet.halted_at is None:
            return False
        problems = _contradictions(wallet, picture)
        if problems:
            raise Rejected(f"wallet {wallet.address} stays halted: {'; '.join(problems)}")
        execute(
            "UPDATE wallet SET halted_at = NULL, halt_reason = NULL WHERE id = %s", (wallet.id,)
        )
        decide("resume", person, wallet_id=wallet.id, note=f"was halted: {wallet.halt_reason}")
    return True


def _contradictions(wallet: Wallet, picture: Picture) -> list[str]:
    """What the chain, at this look, says against what the database believes."""
    found = []
    problem = picture.sight.problem_with(wallet)
    if problem is not None:
        found.append(f"{problem}: `overnight wallet adopt` (then `resolve` what it can't match)")
    shown = {known.transaction.nonce: known for known in picture.known}
    for nonce, hashes in fetch(_OPEN_HASHES, (wallet.id,)):
        rival = shown.get(nonce)
        if rival is not None and rival.receipt and rival.tx_hash not in hashes:
            found.append(f"nonce {nonce} is taken by {rival.tx_hash}: `overnight wallet adopt`")
        elif rival is None and nonce < picture.sight.next_nonce:
            found.append(f"nonce {nonce} is used, the node does not show by what: `wallet resolve`")
    waits_for = picture.sight.next_nonce
    if waits_for < wallet.next_nonce and occupant_of(wallet.id, waits_for) is None:
        found.append(f"the chain waits for nonce {waits_for}: `overnight wallet adopt` fills it")
    [(misplaced,)] = fetch(_MISPLACED, (wallet.id,))
    if misplaced:
        found.append(f"{misplaced} legs are not where their operation put them: call a developer")
    return found


def resolve_nonce(nonce: int, tx_hash: str, by: str) -> Resolution:
    """Say that a nonce was used by a transaction that is none of our payouts; two people must.

    The first call records it. The second, by somebody else, makes it so: an operation of ours at
    that nonce is void and its legs are in line again, and the nonce counts as used.

    Raises:
        Rejected: not halted, the nonce is accounted for, the transaction is ours (adopt it) or not
            final yet, or the same person said so before.
        InvalidInput: no name, or no hash.
    """
    person, wanted = person_named(by), tx_hash.strip()
    if nonce < 0 or not wanted:
        raise InvalidInput("give the nonce, and the hash of what used it: NONCE --tx HASH")
    wallet = our_wallet()
    picture = look_closely(wallet)
    known = next(
        (k for k in picture.known if (k.tx_hash, k.transaction.nonce) == (wanted, nonce)), None
    )
    with transaction():
        wallet = Wallet.lock(wallet.id)
        if wallet.halted_at is None:
            raise Rejected("the wallet is not halted: there is nothing to resolve")
        occupant = occupant_of(wallet.id, nonce)
        _check(wallet, nonce, wanted, known, occupant, picture)
        people = _said(wallet.id, nonce, wanted)
        if any(is_same_person(person, other) for other in people):
            raise Rejected(f"{person} said so already: a second person must, too")
        decide("resolve", person, wallet_id=wallet.id, nonce=nonce, tx_hash=wanted)
        people.append(person)
        if len(people) >= EYES:
            _apply(wallet, nonce, wanted, known, occupant, picture)
    return Resolution(nonce, wanted, people, len(people) >= EYES)


def _said(wallet_id: int, nonce: int, tx_hash: str) -> list[str]:
    rows = fetch(
        "SELECT person FROM payout_decision"
        " WHERE wallet_id = %s AND kind = 'resolve' AND nonce = %s AND tx_hash = %s ORDER BY id",
        (wallet_id, nonce, tx_hash),
    )
    return [str(person) for (person,) in rows]


def _check(
    wallet: Wallet,
    nonce: int,
    tx_hash: str,
    known: KnownTransaction | None,
    occupant: Occupant | None,
    picture: Picture,
) -> None:
    """Raises Rejected when this nonce is not one that people must explain."""
    if occupant is not None and occupant.state in ("settled", "void"):
        raise Rejected(f"nonce {nonce} is accounted for by operation {occupant.id}")
    others = [k for k in picture.known if k.transaction.nonce == nonce and k.tx_hash != tx_hash]
    if others and known is None:
        raise Rejected(f"the node shows another transaction there: {wallets.evidence(others)}")
    if known is None and nonce >= picture.sight.next_nonce:
        raise Rejected(f"nonce {nonce} is not used on chain, and the node does not know {tx_hash}")
    if known is not None:
        ours = fetch("SELECT 1 FROM chain_transaction t JOIN chain_operation o"
                     " ON o.id = t.operation_id WHERE t.tx_hash = %s AND NOT o.displaced",
                     (tx_hash,))  # fmt: skip
        if ours:
            raise Rejected(f"{tx_hash} is our own transaction: nothing to resolve")
        try:
            match(wallet, known.transaction)
        except NotMatched:
            return
        raise Rejected(f"{tx_hash} does what our legs need: `overnight wallet adopt` imports it")


def _apply(
    wallet: Wallet,
    nonce: int,
    tx_hash: str,
    known: KnownTransaction | None,
    occupant: Occupant | None,
    picture: Picture,
) -> None:
    head = picture.sight.head
    try:
        if occupant is not None and known is not None:
            displace(occupant, known, head)
        elif occupant is not None:
            unwind(occupant, f"nonce {nonce} was used by {tx_hash}, as two people say")
    except NotMatched as why:
        raise Rejected(str(why)) from None
    if known is not None:
        operation_id = insert_operation(wallet, known, None)
        settle_found(wallet.id, operation_id, known, head)
    else:
        _insert_unseen(wallet, nonce, tx_hash, head.final_height)
    advance(wallet.id)


def _insert_unseen(wallet: Wallet, nonce: int, tx_hash: str, height: int) -> None:
    """A nonce that is used by something that nobody can look at any more."""
    text = UnsignedTransaction(
        wallet.chain_id, wallet.address, nonce, TxKind.TRANSFER, "", (), 0
    ).to_json()
    execute(
        "INSERT INTO chain_operation (id, wallet_id, nonce, kind, state, unsigned, digest,"
        " mined_height, mined_hash, settled_at)"
        " VALUES (%s, %s, %s, 'transfer', 'settled', %s, %s, %s, %s, overnight_now())",
        (str(new_id()), wallet.id, nonce, text, digest_of(text), height, tx_hash),
    )
