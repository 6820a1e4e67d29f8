"""The verdict on a lane: what its databases, its clocks and its processes say, in one report.

judgement + orphans + backlogs + memory + who ended by itself → violations → RealReport
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal

from verify.real.fleet import Ended
from verify.real.invariants import judge
from verify.real.measures import PROMPT_DEATHS, Backlog, Orphan, find_backlogs, find_orphans
from verify.real.observer import Observer
from verify.real.options import Fault, RealOptions
from verify.real.record import Record
from verify.real.report import RealReport, Times
from verify.real.sampler import Sampler
from verify.real.stage import FOUR_EYES_ABOVE_TOKENS, Stage
from verify.real.waves import SOURCE, Waves

#: The promises. Claimable and running: after a worker's death; drained: after the broker's return.
CLAIMABLE_S = 10.0
RUNNING_S = 15.0
DRAINED_S = 120.0

#: A worker under ten times its load must stay below this.
WORKER_BYTES = 400 * 2**20

#: periodiq ends when the broker is away at a tick; whatever runs it has to start it again.
MAY_END = ("scheduler",)


def make_report(
    options: RealOptions,
    stage: Stage,
    observer: Observer,
    record: Record,
    waves: Waves,
    sampler: Sampler,
    *,
    ended: Sequence[Ended],
    tokens: Sequence[Mapping[str, str]],
    chain_faults: dict[str, int],
    seconds: float,
) -> RealReport:
    """Judge a lane that has converged, or was given up."""
    judgement = judge(
        stage.database_url, stage.chain_url, waves.waves, FOUR_EYES_ABOVE_TOKENS * 10**6
    )
    deserters = [e for e in ended if e.role not in MAY_END and not e.is_refusal]
    found = find_orphans(observer, record)
    backlogs = find_backlogs(observer, record)
    prompt = [job for job in found.jobs if job.deaths <= PROMPT_DEATHS]
    alone = [job for job in prompt if not job.disturbed and not job.in_line]
    violations = [
        *judgement.violations,
        *_miscounted(observer, waves),
        *_money(tokens),
        *(f"a {each.role} ended by itself: {each.log[-1_000:]}" for each in deserters),
        *late(prompt, backlogs, sampler.worker_bytes),
    ]
    if found.never_again:
        violations.append(f"{found.never_again} jobs of dead workers never ran again")
    counts = record.counts()
    [(jobs,)] = observer.rows("SELECT count(*) FROM job_queue")
    return RealReport(
        seed=options.seed,
        seconds=round(seconds, 1),
        kills=counts[Fault.WORKER_KILL],
        broker_kills=counts[Fault.BROKER_KILL],
        postgres_stops=counts[Fault.POSTGRES_STOP],
        faults={fault.value: counts[fault] for fault in Fault},
        chain_faults=chain_faults,
        runs=len(waves.waves),
        holders=judgement.holders,
        lost=judgement.lost,
        double=judgement.double,
        jobs=int(jobs),
        burst_jobs=waves.burst_jobs,
        overload_jobs=waves.overload_jobs,
        inbox_messages=len(waves.inbox_ids),
        repeated_commands=waves.repeated_commands,
        refused_starts=sum(each.is_refusal for each in ended),
        rescued_jobs=len(found.jobs),
        false_alarms=found.false_alarms,
        suspicious_jobs=len(found.jobs) - len(prompt),
        jobs_in_line=sum(job.in_line for job in prompt),
        claimable_undisturbed=Times.of([job.claimable_s for job in alone]),
        running_undisturbed=Times.of([job.running_s for job in alone]),
        claimable_net=Times.of([job.claimable_net_s for job in prompt]),
        running_net=Times.of([job.running_net_s for job in prompt]),
        claimable=Times.of([job.claimable_s for job in prompt]),
        running=Times.of([job.running_s for job in prompt]),
        drained_calm_s=round(backlogs[-1].drained_s, 1),
        drained_net=Times.of([backlog.net_s for backlog in backlogs[:-1]]),
        drained=Times.of([backlog.drained_s for backlog in backlogs[:-1]]),
        worker_bytes_max=sampler.worker_bytes,
        published_jobs_max=sampler.published_jobs,
        broker_messages_max=sampler.broker_messages,
        violations=tuple(violations),
    )


def late(jobs: Sequence[Orphan], backlogs: Sequence[Backlog], worker_bytes: int) -> list[str]:
    """The promises about time and memory that were not kept."""
    found = [
        f"{job.job} was claimable {job.claimable_net_s:.1f} s after its worker's death"
        for job in jobs
        if job.claimable_net_s > CLAIMABLE_S
    ]
    found += [
        f"{job.job} ran again {job.running_net_s:.1f} s after its worker's death"
        for job in jobs
        if job.running_net_s > RUNNING_S
    ]
    found += [
        f"backlog {kill} had begun {backlog.net_s:.0f} s after the broker's return,"
        f" and {backlog.never} jobs never began"
        for kill, backlog in enumerate(backlogs)
        if backlog.never or backlog.net_s > DRAINED_S
    ]
    if worker_bytes > WORKER_BYTES:
        found.append(f"a worker used {worker_bytes / 2**20:.0f} MB")
    return found


def _miscounted(observer: Observer, waves: Waves) -> list[str]:
    """Jobs that were asked for and are not there, or there twice; runs likewise."""
    wanted = (
        ("SELECT count(*) FROM payout_run", (), len(waves.waves)),
        ("SELECT count(*) FROM job_queue WHERE dedup_key ^@ %s", (f"{SOURCE}:",), waves.burst_jobs),
        (
            "SELECT count(*) FROM job_queue WHERE correlation = %s",
            (f"inbox:{SOURCE}",),
            len(waves.inbox_ids),
        ),
    )
    found = [(sql, int(observer.rows(sql, params)[0][0]), count) for sql, params, count in wanted]
    return [f"{sql}: {there} instead of {count}" for sql, there, count in found if there != count]


def _money(tokens: Sequence[Mapping[str, str]]) -> list[str]:
    """Nothing is reserved when no run is open, and no more was promised than there is."""
    return [
        f"the wallet of {each['token']} has {each['reserved']} reserved, {each['available']} free"
        for each in tokens
        if Decimal(each["reserved"]) != 0 or Decimal(each["available"]) < 0
    ]
