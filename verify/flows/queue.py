"""The queue itself: every job has its effect once, or failed visibly, whatever its actor does.

enqueue (plain | pipeline | dedup | singleton) → behaviours: well, flaky, rejected, outage, poison
    → cancel, requeue, discard, pause, resume, strays → one effect for each completed job
"""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from uuid import UUID

from domain.errors import InvariantBroken, Outage, Rejected
from domain.ids import new_id
from domain.job_types import JobType
from jobs.actor import Handler
from jobs.claim import current_claim
from jobs.enqueue import enqueue, enqueue_many
from jobs.operations import Action, apply, pause, resume
from jobs.release import release
from models.database import execute, transaction
from verify.broker import Message
from verify.chaos import PAUSES
from verify.clock import NIGHTS
from verify.effect_rules import EFFECT_RULES
from verify.flow import Act, Stage, register
from verify.queue_rules import broken_queue_rules
from verify.rules import broken_rules

#: Way A, way C, and a money job in a pipeline.
CLAIMED, BATCHED = JobType.JOBS_PRUNE, JobType.NOTIFICATION_INDIVIDUAL
STEPS = (JobType.MATURITY_TOKEN_BURN, JobType.MATURITY_PLT_TRANSFER, JobType.MATURITY_RECORD)

#: What an actor does, and how often in a schedule.
BEHAVIOURS = {
    "well": 8,
    "flaky": 3,
    "outage": 2,
    "reject": 1,
    "poison": 1,
    "broken": 0.4,
    "never": 0.7,
}

#: How often what a failure has to do kills its worker, the first time.
TELLER_DIES = 0.5

_STARTED = """
SELECT id::text FROM job_queue
WHERE job_type = %s AND payload->>'page_id' = ANY(%s) AND started_at IS NOT NULL ORDER BY 1
"""


@register("queue")
class Queue:
    """A handful of jobs of every kind."""

    targets: tuple[str, ...] = (
        CLAIMED.value, BATCHED.value, *(step.value for step in STEPS), "relay", "rescue", "enqueue",
    )  # fmt: skip
    late_targets: tuple[str, ...] = ()
    calls: tuple[str, ...] = ("broadcast", "sign", "receipts")
    queues: tuple[str, ...] = ("maturity", "notifications", "system")
    nights: tuple[datetime, ...] = NIGHTS
    loops: tuple[str, ...] | None = ("heartbeat", "rescue", "slots")
    more_steps = 0
    pauses: Sequence[float] = PAUSES

    def __init__(self) -> None:
        self.handlers: dict[JobType, Handler] | None = {
            CLAIMED: Handler(CLAIMED, self._claimed, self._told),
            BATCHED: Handler(BATCHED, self._locked),
            JobType.PAYOUT_RECONCILE: Handler(JobType.PAYOUT_RECONCILE, self._claimed),
            **{step: Handler(step, self._step) for step in STEPS},
        }
        self._tries: Counter[str] = Counter()
        self._made = 0
        self._died_telling: set[str] = set()
        self._parked: set[str] = set()  # pages whose second step waits for its release
        self._released: set[str] = set()

    def setup(self, stage: Stage) -> None:
        """Nothing is there; jobs come as acts."""
        self.stage = stage
        self._most = stage.dice.choice((2, 4, 8))
        self._tellers = stage.dice_for("tellers")

    # The actors.

    def _claimed(self, slot_id: str) -> None:
        job = current_claim().job.id
        if self._misbehaves(slot_id):
            return
        with current_claim().completion():
            _effect(slot_id, job)

    def _step(self, page_id: str) -> None:
        with current_claim().transaction():
            pass  # work in two transactions, the second of which completes
        with current_claim().completion():
            _effect(page_id, current_claim().job.id)

    def _locked(self, kind: str, subject_id: str) -> None:
        self._misbehaves(kind)
        _effect(kind, UUID(subject_id))

    def _told(self, payload: dict[str, str], error: str) -> None:
        if payload["slot_id"] not in self._died_telling and self._tellers.random() < TELLER_DIES:
            self._died_telling.add(payload["slot_id"])
            self.stage.trace.fault("worker dies as it tells of a failure", payload["slot_id"])
            self.stage.kill("on_failed")
        execute(
            "INSERT INTO verify_effect SELECT 'failed:' || %s, id FROM job_queue"
            " WHERE payload->>'slot_id' = %s AND finished_at IS NOT NULL",
            (payload["slot_id"], payload["slot_id"]),
        )

    def _misbehaves(self, key: str) -> bool:
        behaviour = key.split(":")[0]
        self._tries[key] += 1
        match behaviour:
            case "flaky" if self._tries[key] <= 2:
                raise ValueError("not this time")
            case "never":
                raise ValueError("not this time, and not the next")
            case "outage" if self._tries[key] <= 2:
                raise Outage("the other side is down")
            case "reject":
                raise Rejected("this can never work")
            case "broken":
                raise InvariantBroken("something is very wrong")
            case "poison":
                self.stage.trace.fault("job kills its worker", key)
                self.stage.kill(key)
        return False

    # What happens.

    def eagerness(self) -> float:
        """Until enough jobs are made, much."""
        return 40.0 if self._made < self._most else 5.0

    def acts(self) -> Sequence[Act]:
        """People and programs at work."""
        if self._made < self._most:
            makes = (self._make_claimed, self._make_batch, self._make_pipeline, self._make_twice)
            return [Act("enqueue", 1, self._counted(make)) for make in makes]
        return [
            Act("requeue", 2, partial(self._operate, Action.REQUEUE, "failed")),
            Act("discard", 0.5, partial(self._operate, Action.DISCARD, "failed")),
            Act("cancel", 0.7, partial(self._operate, Action.CANCEL, "pending")),
            Act("pause", 0.7, partial(self._pause, "service:system")),
            Act("resume", 1.5, partial(self._resume, "service:system")),
            Act("release", 3, self._release),
            Act("stray message", 0.5, self._stray, by_person=False),
        ]

    def calm(self) -> Sequence[Act]:
        """Resume what is paused, and release what is parked."""
        acts = [Act("resume", 1, self._resume_all), Act("release", 1, self._release)]
        self._made = self._most  # enough
        if not self.stage.query("SELECT 1 FROM job_queue LIMIT 1"):
            acts.append(Act("enqueue", 1, self._make_claimed))
        return acts

    def _counted(self, make: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            self._made += 1
            make()

        return run

    def _behaviour(self) -> str:
        names = list(BEHAVIOURS)
        return str(self.stage.dice.choices(names, list(BEHAVIOURS.values()))[0])

    def _make_claimed(self) -> None:
        key = f"{self._behaviour()}:{new_id()}"
        with transaction():
            enqueue(CLAIMED.message(key), singleton_key=key)

    def _make_twice(self) -> None:
        key = f"well:{new_id()}"
        for _ in range(2):
            with transaction():
                enqueue(CLAIMED.message(key), dedup_key="once")

    def _make_batch(self) -> None:
        payloads = []
        for _ in range(self.stage.dice.randint(1, 5)):
            payloads.append((f"{self._behaviour()}:{new_id()}", str(new_id())))
        with transaction():
            enqueue_many(BATCHED, payloads, dedup_keys=[key for key, _ in payloads])
            execute(  # its own id is what an effect is known by
                "UPDATE job_queue SET payload ="
                " jsonb_set(payload, '{subject_id}', to_jsonb(id::text)) WHERE dedup_key = ANY(%s)",
                ([key for key, _ in payloads],),
            )

    def _make_pipeline(self) -> None:
        page, parked = f"well:{new_id()}", self.stage.dice.random() < 0.5
        if parked:
            self._parked.add(page)
        steps = STEPS[0].message(page) | STEPS[1].message(page, parked=parked)
        with transaction():
            enqueue(steps | STEPS[2].message(page), dedup_key=page, correlation="run:simulated")

    def _operate(self, action: Action, status: str) -> None:
        rows = self.stage.query(
            "SELECT id::text FROM job_queue WHERE status = %s ORDER BY 1", (status,)
        )
        with transaction():
            apply(action, [job_id for (job_id,) in rows], "ada")

    def _pause(self, scope: str) -> None:
        with transaction():
            pause(scope, "a look", "ada")

    def _resume(self, scope: str) -> None:
        with transaction():
            resume(scope)

    def _resume_all(self) -> None:
        for (scope,) in self.stage.query("SELECT scope FROM pause ORDER BY 1"):
            self._resume(scope)

    def _release(self) -> None:
        rows = self.stage.query(
            "SELECT id FROM job_queue WHERE run_at IS NULL AND status = 'pending'"
        )
        if rows:
            self._released.update(str(job_id) for (job_id,) in rows)
            with transaction():
                release(sorted(UUID(str(job_id)) for (job_id,) in rows))

    def _stray(self) -> str:
        self.stage.broker.waiting.append(Message(new_id(), CLAIMED, 1))
        return "a message without a job"

    # What must be true.

    def is_done(self) -> bool:
        """Every job is at its end, and there were some."""
        sql = "SELECT count(*), count(*) FILTER (WHERE finished_at IS NULL) FROM job_queue"
        [(jobs, unfinished)] = self.stage.query(sql)
        return bool(jobs) and not unfinished and self._made >= self._most

    def check_midway(self) -> list[str]:
        """A claim is never beside an effect."""
        return self._broken()[:3]

    def check(self) -> list[str]:
        """Effects against jobs, and the queue's own rules."""
        but = (
            "an actor failed by itself", "a delivery had no job", "a service paused itself",
        )  # fmt: skip
        return self._broken() + broken_queue_rules(self.stage.query, but)

    def _broken(self) -> list[str]:
        found = broken_rules(self.stage.query, EFFECT_RULES)
        if self._parked:
            rows = self.stage.query(_STARTED, (STEPS[1].value, list(self._parked)))
            if early := [job_id for (job_id,) in rows if job_id not in self._released]:
                found.append(f"a parked step ran before its release: {early}")
        return found


def _effect(key: str, job: UUID) -> None:
    execute("INSERT INTO verify_effect VALUES (%s, %s)", (key, str(job)))
