"""Sweeps: level-triggered queries that keep legs moving, whatever was lost on the way.

    release_parked: the step after a chain phase is due when the phase is final for its page
    sweep_once:     every leg that is not at an end and has no live job gets a page, debts first;
                    a run whose legs are all at an end is finished

Each release and each run is a transaction of its own. May run in every worker at once.
"""

from collections.abc import Sequence
from uuid import UUID

from domain.errors import InvariantBroken
from domain.job_types import JobType, Service
from jobs.enqueue import enqueue
from jobs.failure import pause_service
from jobs.release import release
from models.database import execute, fetch, transaction
from models.payouts import PayoutRun, Wallet
from providers.ports import policy
from usecases.payouts.accounting import accounting
from usecases.payouts.approval import ask_for_money
from usecases.payouts.pages import open_pages
from usecases.payouts.record import notify_paid
from usecases.payouts.settlement import settle_all
from usecases.payouts.stopping import finish_stop

#: Parked steps whose phase is over for every leg of the page. Held legs do not count. Stragglers
#: stop counting once others are ready; the sweep picks them up when they get there.
#: The first leg that is young and under way decides: most pages are looked at no further.
_PARKED = """
SELECT j.id::text
FROM job_outbox o JOIN job_queue j ON j.id = o.job_id
CROSS JOIN LATERAL (
    SELECT (j.payload->>'page_id')::uuid AS page_id,
           CASE o.job_type WHEN 'MaturityPLTTransfer' THEN 'burn' ELSE 'transfer' END AS phase,
           CASE o.job_type WHEN 'MaturityPLTTransfer' THEN 'burning' ELSE 'paying' END AS busy,
           CASE o.job_type WHEN 'MaturityPLTTransfer' THEN 'burned' ELSE 'paid' END AS ready
) s
WHERE o.job_type IN ('MaturityPLTTransfer', 'MaturityRecord') AND o.due_at IS NULL
  AND j.run_at IS NULL AND j.status = 'pending'
  AND NOT EXISTS (
    SELECT FROM payout_leg l CROSS JOIN LATERAL (
        SELECT FROM operation_leg ol JOIN chain_operation c ON c.id = ol.operation_id
        WHERE ol.leg_id = l.id AND ol.phase = s.phase AND NOT ol.void
          AND overnight_is_recent(c.created_at, %(straggler)s * interval '1 s') OFFSET 0) young
    WHERE l.page_id = s.page_id AND l.state = s.busy OFFSET 0)
  AND (NOT EXISTS (SELECT FROM payout_leg l
                   WHERE l.page_id = s.page_id AND l.state = s.busy OFFSET 0)
       OR EXISTS (SELECT FROM payout_leg l
                  WHERE l.page_id = s.page_id AND l.state = s.ready OFFSET 0))
"""

#: Legs that wait for a phase (or for being told) that no unfinished job of their page covers.
#: Debts whose page failed wait as long again as they have waited, 5 s to 10 min.
#: A page whose burn is still to come covers all its legs: they are not even read.
_UNCOVERED = """
WITH live AS (
    SELECT (payload->>'page_id')::uuid AS page_id, min(CASE job_type
        WHEN 'MaturityTokenBurn' THEN 1 WHEN 'MaturityPLTTransfer' THEN 2 ELSE 3 END) AS step
    FROM job_queue
    WHERE correlation = %(correlation)s AND finished_at IS NULL AND payload ? 'page_id'
    GROUP BY 1
), refused AS (
    SELECT (payload->>'page_id')::uuid AS page_id, max(finished_at) AS at FROM job_queue
    WHERE correlation = %(correlation)s AND status = 'failed' AND job_type = 'MaturityPLTTransfer'
    GROUP BY 1
), resting AS (
    SELECT f.page_id FROM refused f JOIN payout_leg l ON l.page_id = f.page_id
    JOIN operation_leg b ON b.leg_id = l.id AND b.phase = 'burn' AND NOT b.void
    JOIN chain_operation o ON o.id = b.operation_id
    WHERE l.run_id = %(run)s AND l.state = 'burned' GROUP BY f.page_id, f.at
    HAVING overnight_is_recent(f.at, least(interval '10 min',
                                           greatest(interval '5 s', f.at - min(o.settled_at))))
)
SELECT l.id::text, l.state
FROM payout_page p LEFT JOIN live ON live.page_id = p.id CROSS JOIN LATERAL (
    SELECT id, state, address FROM payout_leg
    WHERE page_id = p.id AND CASE state
        WHEN 'planned' THEN 1 WHEN 'burned' THEN 2
        WHEN 'paid' THEN CASE WHEN notified_at IS NULL THEN 3 END
        END < coalesce(live.step, 4)
    OFFSET 0) l
WHERE p.run_id = %(run)s AND coalesce(live.step, 4) > 1
  AND NOT (l.state = 'burned' AND p.id IN (SELECT page_id FROM resting))
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


#: Runs that wait for their plan or for money while no job works on it: it ended while the run was
#: stopped, or it failed and what was to be told of that failed, too.
_UNASKED = """
SELECT id::text FROM payout_run r
WHERE state IN ('planning', 'waiting') AND NOT EXISTS (
    SELECT FROM job_queue WHERE correlation = 'run:' || r.id AND finished_at IS NULL
    AND job_type = CASE r.state WHEN 'planning' THEN 'MaturityPayment'
                                ELSE 'MaturityLiquidityCheck' END)
"""

_IS_PAUSED = "SELECT 1 FROM pause WHERE scope = 'service:maturity'"


def sweep_all() -> bool:
    """Every sweep once, for the loop of a worker; True if there was something to do."""
    released, swept, asked = release_parked(), sweep_once(), ask_again()
    return bool(released or swept or asked)


def settle_and_release() -> bool:
    """Settle, and release at once what waited for that; True if there was something to do.

    Whatever is left parked (the process died in between, or another one settled) is for the sweep.
    """
    settled = settle_all()
    return bool(settled and release_parked()) or settled


def ask_again() -> int:
    """Give every run before its payments the job that it waits for; returns how many had none."""
    asked = 0
    for (run_id,) in fetch(_UNASKED):
        with transaction():
            run = PayoutRun.lock(run_id)
            if run.state == "planning" and run.plan_hash is None:
                enqueue(
                    JobType.MATURITY_PAYMENT.message(run_id),
                    singleton_key=f"{run_id}:payment",
                    correlation=run.correlation,
                )
                asked += 1
            elif run.state == "waiting":
                ask_for_money(run)
                asked += 1
    return asked


def release_parked() -> int:
    """Release the steps whose phase is final; returns how many."""
    ready = fetch(_PARKED, {"straggler": policy().straggler_after_s})
    if not ready:
        return 0
    with transaction():
        return release([UUID(job_id) for (job_id,) in ready])


def sweep_once() -> int:
    """Give uncovered legs a page and finish what is over; returns how many runs were touched.

    Raises:
        InvariantBroken: a run does not add up; payouts are paused, and the other runs were swept.
    """
    runs = fetch(
        "SELECT id::text, state FROM payout_run WHERE state IN ('paying', 'stopping')"
        " ORDER BY sequence"
    )
    touched, broken = 0, []
    for run_id, state in runs:
        try:
            touched += _sweep(run_id) if state == "paying" else _sweep_stopping(run_id)
        except InvariantBroken as error:
            broken.append(error)
            _pause_once(run_id, str(error))
    if broken:
        raise broken[0]
    return touched


def _pause_once(run_id: str, reason: str) -> None:
    with transaction():
        PayoutRun.lock(run_id)
        if not fetch(_IS_PAUSED):
            pause_service(Service.MATURITY, f"run {run_id}", reason)


def _sweep_stopping(run_id: str) -> bool:
    """The paid are told, and the run is stopped once nothing of it is open on chain."""
    with transaction():
        run = PayoutRun.lock(run_id)
        if run.state != "stopping":
            return False
        Wallet.lock(run.wallet_id)
        paid = _of(_uncovered(run_id), "paid")
        notify_paid(run, paid)
        return finish_stop(run_id) or bool(paid)


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
    """A look without a lock: no leg is under way any more. The last ones are likely to be."""
    rows = fetch(
        "SELECT 1 FROM payout_leg WHERE run_id = %s"
        " AND state IN ('planned', 'burning', 'burned', 'paying') ORDER BY address DESC LIMIT 1",
        (run_id,),
    )
    return not rows


def _of(legs: Sequence[tuple[str, str]], state: str) -> list[str]:
    return [leg_id for leg_id, found in legs if found == state]
