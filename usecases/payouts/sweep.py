"""Sweeps: level-triggered queries that keep legs moving, whatever was lost on the way.

    release_parked: the step after a chain phase is due when the phase is final for its page
    sweep_once:     every leg that is not at an end and has no live job gets a page, debts first;
                    a run whose legs are all at an end is finished

Each release and each run is a transaction of its own. May run in every worker at once.
"""

from collections.abc import Sequence
from uuid import UUID

from jobs.release import release
from models.database import execute, fetch, transaction
from models.payouts import PayoutRun, Wallet
from providers.ports import policy
from usecases.payouts.accounting import accounting
from usecases.payouts.pages import open_pages
from usecases.payouts.record import notify_paid

#: Parked steps whose phase is over for every leg of the page. Held legs do not count. Stragglers
#: stop counting once others are ready; the sweep picks them up when they get there.
_PARKED = """
SELECT j.id::text
FROM job_outbox o JOIN job_queue j ON j.id = o.job_id
CROSS JOIN LATERAL (
    SELECT CASE o.job_type WHEN 'MaturityPLTTransfer' THEN 'burning' ELSE 'paying' END AS busy,
           CASE o.job_type WHEN 'MaturityPLTTransfer' THEN 'burned' ELSE 'paid' END AS ready
) s
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE l.state = s.busy) AS busy,
           count(*) FILTER (WHERE l.state = s.busy AND c.created_at >= overnight_now()
                                  - %(straggler)s * interval '1 s') AS young,
           count(*) FILTER (WHERE l.state = s.ready) AS ready
    FROM payout_leg l
    LEFT JOIN operation_leg ol ON ol.leg_id = l.id AND NOT ol.void AND ol.phase =
        CASE s.busy WHEN 'burning' THEN 'burn' ELSE 'transfer' END
    LEFT JOIN chain_operation c ON c.id = ol.operation_id
    WHERE l.page_id = (j.payload->>'page_id')::uuid AND l.state IN (s.busy, s.ready)
) legs
WHERE o.job_type IN ('MaturityPLTTransfer', 'MaturityRecord') AND o.due_at IS NULL
  AND j.run_at IS NULL AND j.status = 'pending'
  AND (legs.busy = 0 OR (legs.young = 0 AND legs.ready > 0))
"""

#: Legs that wait for a phase (or for being told) that no unfinished job of their page covers.
_UNCOVERED = """
WITH live AS (
    SELECT (payload->>'page_id')::uuid AS page_id, min(CASE job_type
        WHEN 'MaturityTokenBurn' THEN 1 WHEN 'MaturityPLTTransfer' THEN 2 ELSE 3 END) AS step
    FROM job_queue
    WHERE correlation = %(correlation)s AND finished_at IS NULL AND payload ? 'page_id'
    GROUP BY 1
)
SELECT l.id::text, l.state
FROM payout_leg l LEFT JOIN live ON live.page_id = l.page_id
WHERE l.run_id = %(run)s AND CASE l.state
    WHEN 'planned' THEN 1 WHEN 'burned' THEN 2
    WHEN 'paid' THEN CASE WHEN l.notified_at IS NULL THEN 3 END
    END < coalesce(live.step, 4)
ORDER BY l.address
"""

#: Every leg at an end, the paid ones told, and nothing open on chain.
_FINISH = """
UPDATE payout_run r
SET state = 'finished', finished_at = overnight_now(), note = NULL
WHERE r.id = %s AND r.state = 'paying'
  AND NOT EXISTS (SELECT FROM payout_leg l WHERE l.run_id = r.id AND (
      l.state NOT IN ('paid', 'held', 'failed') OR (l.state = 'paid' AND l.notified_at IS NULL)))
  AND NOT EXISTS (SELECT FROM chain_operation o WHERE o.wallet_id = r.wallet_id
                  AND o.run_id = r.id AND o.state NOT IN ('settled', 'void'))
"""


def sweep_all() -> bool:
    """Both sweeps once, for the loop of a worker; True if there was something to do."""
    released, swept = release_parked(), sweep_once()
    return bool(released or swept)


def release_parked() -> int:
    """Release the steps whose phase is final; returns how many."""
    ready = fetch(_PARKED, {"straggler": policy().straggler_after_s})
    if not ready:
        return 0
    with transaction():
        return release([UUID(job_id) for (job_id,) in ready])


def sweep_once() -> int:
    """Give uncovered legs a page and finish what is over; returns how many runs were touched."""
    runs = fetch("SELECT id::text FROM payout_run WHERE state = 'paying' ORDER BY sequence")
    return sum(_sweep(run_id) for (run_id,) in runs)


def _sweep(run_id: str) -> bool:
    if not _uncovered(run_id) and not _may_be_over(run_id):
        return False
    with transaction():
        free = fetch("SELECT 1 FROM payout_run WHERE id = %s FOR UPDATE SKIP LOCKED", (run_id,))
        run = PayoutRun.load(run_id)
        if not free or run.state != "paying":
            return False
        Wallet.lock(run.wallet_id)
        legs = _uncovered(run_id)
        open_pages(run, _of(legs, "burned"), "transfer")  # debts first
        open_pages(run, _of(legs, "planned"), "burn")
        notify_paid(run, _of(legs, "paid"))
        finished = execute(_FINISH, (run_id,))
        if finished:
            accounting(run_id)
        return bool(legs or finished)


def _uncovered(run_id: str) -> list[tuple[str, str]]:
    rows = fetch(_UNCOVERED, {"run": run_id, "correlation": f"run:{run_id}"})
    return [(str(leg_id), str(state)) for leg_id, state in rows]


def _may_be_over(run_id: str) -> bool:
    """A look without a lock: no leg is under way any more."""
    rows = fetch(
        "SELECT 1 FROM payout_leg WHERE run_id = %s"
        " AND state IN ('planned', 'burning', 'burned', 'paying') LIMIT 1",
        (run_id,),
    )
    return not rows


def _of(legs: Sequence[tuple[str, str]], state: str) -> list[str]:
    return [leg_id for leg_id, found in legs if found == state]
