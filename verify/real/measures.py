"""How long recovery took, from the observer's rows: jobs of dead workers, backlogs of the broker.

    deaths + transitions → orphans → seconds until claimable, and until running again

The promise (10 s and 15 s after a worker's death) is about a machine whose servers answer and that
is not full. While a server is away, or PostgreSQL has only just returned (the rescue then gives
everybody time to be heard), or jobs go first that were due first, the clock stands still. Deaths
with nothing of that are reported apart, with no clock stopped.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from domain.job_types import JobType
from jobs.rescue import GRACE_AFTER_RESTART
from verify.real.observer import Observer
from verify.real.options import Fault
from verify.real.record import Death, Record

Spans = list[tuple[float, float]]

#: A loop of a worker rests a second after a lost connection, then connects and looks again.
RECONNECT_S = 2.0

#: Dramatiq's consumers rest three seconds after a lost connection, then connect and declare.
CONSUMERS_BACK_S = 5.0

#: A third death in a row is suspicious: the job then waits on purpose (jobs.rescue).
PROMPT_DEATHS = 2

#: Where bursts stand in line (verify.real.waves).
BURST_QUEUE = JobType.NOTIFICATION_INDIVIDUAL.spec.queue

#: How long after a fault the database stops judging, or jobs stop being delivered.
_DATABASE = {
    Fault.POSTGRES_STOP: GRACE_AFTER_RESTART.total_seconds() + RECONNECT_S,
    Fault.BLACK_HOLE: RECONNECT_S,
    Fault.CUT: RECONNECT_S,
    Fault.EXHAUSTION: RECONNECT_S,
    Fault.DELAY: 0.0,
}
_DELIVERY = {
    **_DATABASE,
    Fault.BROKER_KILL: CONSUMERS_BACK_S,
    Fault.BLACK_HOLE: CONSUMERS_BACK_S,
    Fault.CUT: CONSUMERS_BACK_S,
}

#: Of each job that was taken from a worker: when, when it began again, and when the last job of its
#: queue began that had been due before it.
_ORPHANS = """
SELECT t.job_id::text, j.job_type, w.pid, t.deaths, extract(epoch FROM t.at)::float8,
       extract(epoch FROM again.at)::float8,
       extract(epoch FROM (SELECT max(o.at) FROM observer.transition o
                           WHERE o.queue = t.queue AND o.at > t.at AND o.at < again.at
                             AND o.old IN ('pending', 'retrying') AND o.run_at <= t.at
                             AND o.job_id <> t.job_id))::float8
FROM observer.transition t JOIN worker w ON w.id = t.worker JOIN job_queue j ON j.id = t.job_id
CROSS JOIN LATERAL (SELECT min(c.at) AS at FROM observer.transition c
                    WHERE c.job_id = t.job_id AND c.at > t.at AND c.old = 'pending') AS again
WHERE t.old = 'processing' AND t.new = 'pending' ORDER BY t.at
"""

#: When the last job of a burst had begun.
_BURST = """
SELECT extract(epoch FROM max(t.at))::float8 FROM job_queue j
JOIN observer.transition t ON t.job_id = j.id AND t.old = 'pending'
WHERE j.correlation = 'real-lane'
  AND j.created_at BETWEEN to_timestamp(%s) AND to_timestamp(%s)
"""


@dataclass(frozen=True)
class Orphan:
    """A job that its worker's death left behind.

    Seconds since the death; `net` without those in which a server was away or, once it was
    claimable, jobs of its queue began that had been due before it.
    """

    job: str  # type and id
    deaths: int
    claimable_s: float
    running_s: float
    claimable_net_s: float
    running_net_s: float
    in_line: bool  # such jobs were ahead of it
    disturbed: bool  # a server was away


@dataclass(frozen=True)
class Orphans:
    """What the rescue took from workers."""

    jobs: list[Orphan]
    false_alarms: int  # taken from workers that lived, for want of a heartbeat
    never_again: int  # not claimed once more: cancelled, or lost


def find_orphans(observer: Observer, record: Record) -> Orphans:
    """Every job that was taken from a worker, and what became of it."""
    database = _spans(record, _DATABASE)
    delivery = _spans(record, _DELIVERY)
    found: list[Orphan] = []
    false_alarms = never_again = 0
    for job_id, job_type, pid, deaths, taken_at, running_at, ahead_at in observer.rows(_ORPHANS):
        death = _death_of(record.deaths, pid, taken_at)
        if death is None:
            false_alarms += 1
            continue
        if running_at is None:
            never_again += 1
            continue
        line = [] if ahead_at is None else [(taken_at, ahead_at)]
        found.append(
            Orphan(
                f"{job_type} {job_id}",
                deaths,
                taken_at - death.at,
                running_at - death.at,
                taken_at - death.at - _overlap(database, death.at, taken_at),
                running_at - death.at - _overlap(_union([*delivery, *line]), death.at, running_at),
                bool(line),
                _overlap(delivery, death.at, running_at) > 0,
            )
        )
    return Orphans(found, false_alarms, never_again)


@dataclass(frozen=True)
class Backlog:
    """What was due at a return of the broker. `net_s` leaves out what stood behind a burst."""

    drained_s: float
    net_s: float
    never: int  # jobs that never began


def find_backlogs(observer: Observer, record: Record) -> list[Backlog]:
    """One for each return; the last is that of the calm, which no burst excuses."""
    bursts = _bursts(observer, record)
    found = []
    for kill, at in enumerate(record.returns):
        of_all, of_others, never = observer.drained_after(kill, at, BURST_QUEUE)
        excused = kill < len(record.returns) - 1 and _overlap(bursts, at, at + of_all) > 0
        found.append(Backlog(of_all, of_others if excused else of_all, never))
    return found


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the values are; 0 without any."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def _death_of(deaths: Sequence[Death], pid: int, at: float) -> Death | None:
    fitting = [
        d for d in deaths if d.pid == pid and d.at <= at and (d.until is None or at <= d.until)
    ]
    return max(fitting, key=lambda death: death.at, default=None)


def _spans(record: Record, extra_s: dict[Fault, float]) -> Spans:
    """The times in which one of these faults, or what follows it, was at work."""
    return _union(
        [
            (each.begin, each.end + extra_s[each.fault])
            for each in record.injected
            if each.fault in extra_s
        ]
    )


def _union(spans: Spans) -> Spans:
    union: Spans = []
    for begin, end in sorted(spans):
        if union and begin <= union[-1][1]:
            union[-1] = (union[-1][0], max(union[-1][1], end))
        else:
            union.append((begin, end))
    return union


def _bursts(observer: Observer, record: Record) -> Spans:
    """While a burst was in line, other jobs of its queue stood in the same line."""
    return [
        (each.begin, float(end))
        for each in record.injected
        if each.fault is Fault.OVERLOAD
        for (end,) in observer.rows(_BURST, (each.begin, each.end))
        if end is not None
    ]


def _overlap(spans: Spans, begin: float, end: float) -> float:
    return sum(max(0.0, min(end, until) - max(begin, since)) for since, until in spans)
