"""Tell the paid: settlement marked the legs paid, this only notifies, once per leg.

    a page's legs, paid and not told → notified_at + one fan-out job, in one commit → notifications
    whoever was late                 → notified_at + a job of their own each

A user has at most one notification of a payment, whichever job comes first and how often.
"""

from collections.abc import Sequence

from domain.errors import NotFound
from domain.job_types import JobType
from jobs.claim import current_claim
from jobs.enqueue import enqueue, enqueue_many
from models.database import execute, fetch
from models.payouts import PayoutRun, Wallet

MATURITY_PAID = "maturity_paid"

#: Amounts are exact: units times 10^-decimals, with all decimals. An id follows from what is told,
#: so that a simulated night can be replayed exactly.
_WRITE = """
INSERT INTO notification (id, user_id, kind, title, message, dedup_key)
SELECT md5(%(kind)s || ':' || l.id)::uuid, l.address, %(kind)s, 'Bond Maturity Payment Completed',
       format('Your maturity payment of %%s %%s for %%s has been processed (transaction %%s).',
              l.units * ('1e-' || r.token_decimals)::numeric, r.token, b.name, l.paid_hash),
       %(kind)s || ':' || l.id
FROM payout_leg l JOIN payout_run r ON r.id = l.run_id JOIN bond b ON b.id = r.bond_id
WHERE {subject} = %(subject)s AND l.state = 'paid' AND l.notified_at IS NOT NULL
ON CONFLICT (user_id, dedup_key) DO NOTHING
"""


def record_page(page_id: str) -> None:
    """Tell the holders of a page's paid legs, in the transaction that completes the job."""
    with current_claim().completion():
        [(run_id,)] = fetch("SELECT run_id::text FROM payout_page WHERE id = %s", (page_id,))
        run = PayoutRun.hold(run_id)
        Wallet.lock(run.wallet_id)
        told = execute(
            "UPDATE payout_leg SET notified_at = overnight_now()"
            " WHERE page_id = %s AND state = 'paid' AND notified_at IS NULL",
            (page_id,),
        )
        if told:
            message = JobType.NOTIFICATION_FANOUT.message(MATURITY_PAID, page_id)
            enqueue(message, correlation=run.correlation)


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


def write_notifications(kind: str, page_id: str) -> int:
    """Write the notifications of a page's told legs, once each, in the open transaction.

    Returns how many were new. Raises NotFound for another kind.
    """
    return _write(kind, "l.page_id", page_id)


def write_notification(kind: str, leg_id: str) -> None:
    """Write the notification of a told leg, once, in the open transaction. Raises NotFound."""
    if not _write(kind, "l.id", leg_id) and not fetch(
        "SELECT 1 FROM payout_leg WHERE id = %s AND state = 'paid'", (leg_id,)
    ):
        raise NotFound(f"nothing to say about {kind} {leg_id}")


def _write(kind: str, subject: str, subject_id: str) -> int:
    if kind != MATURITY_PAID:
        raise NotFound(f"nothing to say about {kind} {subject_id}")
    return execute(_WRITE.format(subject=subject), {"kind": kind, "subject": subject_id})
