"""Tell the paid: settlement marked the legs paid, this only notifies, once per leg.

paid and not told → notified_at + one notification job per leg, in one commit → notification row
"""

from collections.abc import Sequence

from domain.errors import NotFound
from domain.ids import new_id
from domain.job_types import JobType
from domain.payouts import amount_text
from jobs.claim import current_claim
from jobs.enqueue import enqueue_many
from models.database import execute, fetch
from models.payouts import PayoutRun, Wallet

MATURITY_PAID = "maturity_paid"


def record_page(page_id: str) -> None:
    """Notify the holders of a page's paid legs, in the transaction that completes the job."""
    with current_claim().completion():
        [(run_id,)] = fetch("SELECT run_id::text FROM payout_page WHERE id = %s", (page_id,))
        run = PayoutRun.lock(run_id)
        Wallet.lock(run.wallet_id)
        rows = fetch(
            "SELECT id::text FROM payout_leg"
            " WHERE page_id = %s AND state = 'paid' AND notified_at IS NULL ORDER BY id",
            (page_id,),
        )
        notify_paid(run, [leg_id for (leg_id,) in rows])


def notify_paid(run: PayoutRun, leg_ids: Sequence[str]) -> None:
    """Enqueue a notification per leg and mark them told, in the open transaction."""
    if not leg_ids:
        return
    execute(
        "UPDATE payout_leg SET notified_at = overnight_now() WHERE id = ANY(%s::uuid[])",
        (list(leg_ids),),
    )
    enqueue_many(
        JobType.NOTIFICATION_INDIVIDUAL,
        [(MATURITY_PAID, leg_id) for leg_id in leg_ids],
        dedup_keys=[f"notify:{MATURITY_PAID}:{leg_id}" for leg_id in leg_ids],
        correlation=run.correlation,
    )


def write_notification(kind: str, subject_id: str) -> None:
    """Write the notification of a paid leg, once, in the open transaction. Raises NotFound."""
    rows = fetch(
        "SELECT l.address, l.units, r.token, r.token_decimals, b.name, l.paid_hash"
        " FROM payout_leg l JOIN payout_run r ON r.id = l.run_id JOIN bond b ON b.id = r.bond_id"
        " WHERE l.id = %s AND l.state = 'paid'",
        (subject_id,),
    )
    if kind != MATURITY_PAID or not rows:
        raise NotFound(f"nothing to say about {kind} {subject_id}")
    [(address, units, token, decimals, bond_name, paid_hash)] = rows
    amount = amount_text(int(units), decimals)
    execute(
        "INSERT INTO notification (id, user_id, kind, title, message, dedup_key)"
        " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (user_id, dedup_key) DO NOTHING",
        (
            str(new_id()), address, kind, "Bond Maturity Payment Completed",
            f"Your maturity payment of {amount} {token} for {bond_name} has been processed"
            f" (transaction {paid_hash}).",
            f"{kind}:{subject_id}",
        ),
    )  # fmt: skip
