"""Accept that a holder was paid and can't be burned any more: a loss that two people take.

Only a reorg deeper than finality makes one: the payment came again, and the burn reverted.
"""

from dataclasses import dataclass

from domain.errors import NotFound, Rejected
from models.database import fetch, transaction
from models.payouts import PayoutRun
from usecases.payouts.decisions import decide, is_same_person, person_named

#: People who must say the same of a holder.
EYES = 2

_SAID = """
SELECT person FROM payout_decision
WHERE run_id = %s AND kind = 'accept' AND note = %s ORDER BY id
"""


@dataclass(frozen=True)
class Acceptance:
    """Who accepts it so far; `applied` once two do, and reconcile lets it pass."""

    address: str
    people: list[str]
    applied: bool


def accept_unburned(run_id: str, address: str, by: str) -> Acceptance:
    """Record that one more person accepts it.

    Raises:
        NotFound: no such run, or no such holder in it.
        Rejected: the holder is not paid and unburned with nothing under way, or said so before.
        InvalidInput: no name.
    """
    person = person_named(by)
    PayoutRun.load(run_id)
    with transaction():
        PayoutRun.lock(run_id)
        rows = fetch(
            "SELECT state = 'paid' AND burn_hash IS NULL AND NOT EXISTS ("
            " SELECT FROM operation_leg o WHERE o.leg_id = l.id AND o.phase = 'burn'"
            " AND NOT o.void) FROM payout_leg l WHERE run_id = %s AND address = %s",
            (run_id, address),
        )
        if not rows:
            raise NotFound(f"run {run_id} has no holder {address}: `overnight payouts statement`")
        if not rows[0][0]:
            raise Rejected(f"{address} is not paid and unburned: there is nothing to accept")
        people = [str(name) for (name,) in fetch(_SAID, (run_id, address))]
        if any(is_same_person(person, other) for other in people):
            raise Rejected(f"{person} accepted it already: a second person must, too")
        decide("accept", person, run_id=run_id, note=address)
        people.append(person)
    return Acceptance(address, people, len(people) >= EYES)


def accepted(run_id: str) -> set[str]:
    """Addresses of a run whose missing burn two people accepted."""
    rows = fetch(
        "SELECT note FROM payout_decision WHERE run_id = %s AND kind = 'accept'"
        " GROUP BY note HAVING count(DISTINCT lower(person)) >= %s",
        (run_id, EYES),
    )
    return {str(address) for (address,) in rows}
