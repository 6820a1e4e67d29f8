"""Trigger a bond's maturity payout: one run per bond, however often and from wherever.

bond due? holders? → wallet bound → run + MaturityPayment in one commit
"""

from dataclasses import dataclass
from uuid import UUID

from domain.errors import InvalidInput, Rejected
from domain.ids import new_id
from domain.job_types import JobType
from jobs.enqueue import enqueue
from models.bonds import Bond
from models.database import execute, fetch, transaction
from models.payouts import Wallet
from usecases.payouts.planning import KIND, find_bond
from usecases.payouts.wallets import bind_wallet


@dataclass(frozen=True)
class TriggerResult:
    """The run that pays the bond; `created` is False when it was there already."""

    run_id: str
    created: bool


def trigger_maturity(
    bond_id: str, triggered_by: str, lost_run_id: str | None = None
) -> TriggerResult:
    """Start paying a matured bond's holders, or return the run that is doing it.

    With `lost_run_id`, a run comes back that a restored database has lost: it gets the same id, so
    its legs get the same refs, and `adopt` finds what they were paid.

    Raises:
        NotFound: no such bond.
        InvalidInput: `lost_run_id` is no id.
        Rejected: before its maturity date, already redeemed, stopped, or without holders; or
            another run of the bond is in the way of the lost one.
    """
    bond = find_bond(bond_id)
    known = _known_run(bond_id)
    if known is not None and lost_run_id in (None, known.run_id):
        return known
    if known is not None:
        raise Rejected(
            f"run {known.run_id} of bond {bond_id} is in the way: `overnight payouts stop"
            f" {known.run_id}` first"
        )
    [(is_due, today)] = fetch(
        "SELECT %s <= overnight_now()::date, overnight_now()::date", (bond.maturity_date,)
    )
    if not is_due:
        raise Rejected(f"bond {bond_id} matures on {bond.maturity_date}; today is {today}")
    holders = "SELECT 1 FROM bond_holding WHERE bond_id = %s AND balance > 0 LIMIT 1"
    if not fetch(holders, (bond_id,)):
        raise Rejected(f"bond {bond_id} has no holders: nobody to pay")
    wallet = bind_wallet()
    with transaction():
        run_id = _insert(bond, wallet, triggered_by, _as_id(lost_run_id))
        if run_id is not None:
            enqueue(
                JobType.MATURITY_PAYMENT.message(run_id),
                dedup_key=f"{run_id}:payment",
                correlation=f"run:{run_id}",
            )
            return TriggerResult(run_id, True)
    return trigger_maturity(bond_id, triggered_by, lost_run_id)  # another trigger was first


def _as_id(lost_run_id: str | None) -> str:
    if lost_run_id is None:
        return str(new_id())
    try:
        run_id = str(UUID(lost_run_id))
    except ValueError:
        raise InvalidInput(f"{lost_run_id!r} is no run's id: give all of it") from None
    if fetch("SELECT 1 FROM payout_run WHERE id = %s", (run_id,)):
        raise Rejected(f"run {run_id} is in this database: `overnight payouts show {run_id}`")
    return run_id


def _insert(bond: Bond, wallet: Wallet, triggered_by: str, run_id: str) -> str | None:
    """Insert the run; None if the unique index knows another one that is not over."""
    inserted = execute(
        """
        INSERT INTO payout_run (id, kind, subject, bond_id, wallet_id, config_version, record_date,
                                token, token_decimals, triggered_by)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
        ON CONFLICT (kind, subject) WHERE state NOT IN ('cancelled', 'failed') DO NOTHING
        """,
        (
            run_id, KIND, bond.id, bond.id, wallet.id, bond.file_digest, bond.maturity_date,
            bond.token, bond.token_decimals, triggered_by,
        ),
    )  # fmt: skip
    return run_id if inserted else None


def _known_run(bond_id: str) -> TriggerResult | None:
    rows = fetch(
        "SELECT id, state, finished_at::date FROM payout_run"
        " WHERE kind = %s AND subject = %s AND state NOT IN ('cancelled', 'failed')",
        (KIND, bond_id),
    )
    if not rows:
        return None
    run_id, state, finished_on = rows[0]
    if state == "finished":
        raise Rejected(f"bond {bond_id} was redeemed on {finished_on} by run {run_id}")
    if state in ("stopping", "stopped"):
        raise Rejected(
            f"run {run_id} of bond {bond_id} is {state}: `overnight payouts resume {run_id}`"
        )
    return TriggerResult(str(run_id), False)
