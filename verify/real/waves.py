"""The work of a lane: bonds redeemed in waves, messages to the inbox, bursts of small jobs.

    import → trigger → approve (a second person, where the plan is large) → finished → next wave

Commands are the program's own, run as processes. They meet the same faults as everything else and
are repeated as a person would repeat them.
"""

import json
import threading
from contextlib import closing

import pika

from domain.job_types import JobType
from jobs.batch import PREFETCH
from jobs.enqueue import enqueue_many
from jobs.inbox import INBOX_ACTOR, INBOX_QUEUE, INBOX_VERSION
from models.database import CONNECTION_ERRORS, connect_to, reconnect, transaction
from usecases.payouts.record import MATURITY_PAID
from verify.real.bonds import Wave, make_wave
from verify.real.fleet import CommandFailed, Fleet
from verify.real.observer import BROKER_AWAY, Observer
from verify.real.options import RealOptions
from verify.real.stage import Stage

#: A command that fails so often in a row does not fail because of a fault.
TRIES = 60
REST_S = 0.25

#: Each inbox request is sent so often: the inbox must take it once.
SENT = 2
SOURCE = "real-lane"

_OPEN = "SELECT count(*) FROM payout_run WHERE state NOT IN ('finished', 'failed', 'cancelled')"
_RUN_OF = "SELECT id FROM payout_run WHERE bond_id = %s"
_TO_APPROVE = "SELECT id::text, plan_hash FROM payout_run WHERE state = 'approval'"
_PAID = "SELECT id::text FROM payout_leg WHERE state = 'paid' LIMIT %s"


class Waves:
    """Keeps `waves_at_once` runs under way in a thread of its own, from `start` to `finish`."""

    def __init__(
        self, options: RealOptions, stage: Stage, fleet: Fleet, observer: Observer,
        ended: threading.Event,
    ) -> None:  # fmt: skip
        self._options, self._stage, self._fleet = options, stage, fleet
        self._observer = observer
        self._ended = ended  # the lane was given up
        self._enough = threading.Event()  # no new wave any more
        self._thread = threading.Thread(target=self._run, name="waves", daemon=True)
        self.waves: list[Wave] = []
        self.inbox_ids: set[str] = set()
        self.burst_jobs = 0
        self.repeated_commands = 0
        self.error: BaseException | None = None
        connect_to(stage.proxied_database_url, "overnight real lane")

    def start(self) -> None:
        """Begin with the first wave."""
        self._thread.start()

    def join(self) -> None:
        """Wait for the thread: `finish` was called, or the lane given up."""
        self._thread.join()

    def finish(self) -> None:
        """Begin no new wave, and see the last ones approved; raises what went wrong meanwhile."""
        self._enough.set()
        self.join()
        if self.error is not None:
            raise self.error

    @property
    def overload_jobs(self) -> int:
        """Ten times what all workers together hold in memory."""
        return 10 * PREFETCH * self._options.workers

    def overload(self) -> int:
        """Enqueue ten times what the workers can hold: told-already notifications; how many.

        They change nothing, since each holder is told once; each must be completed all the same.
        """
        if not self._observer.until(_PAID, 120, (1,)):
            raise RuntimeError("nobody was paid within two minutes: nothing to notify about")
        legs = [leg_id for (leg_id,) in self._observer.rows(_PAID, (self.overload_jobs,))]
        first = self.burst_jobs
        numbers = range(first, first + self.overload_jobs)
        payloads = [(MATURITY_PAID, legs[number % len(legs)]) for number in numbers]
        keys = [f"{SOURCE}:{number}" for number in numbers]  # a repeated commit adds nothing
        for _ in range(TRIES):
            try:
                with transaction():
                    enqueue_many(
                        JobType.NOTIFICATION_INDIVIDUAL, payloads, dedup_keys=keys,
                        correlation=SOURCE,
                    )  # fmt: skip
            except CONNECTION_ERRORS:
                reconnect()
                self._ended.wait(REST_S)
            else:
                reconnect()
                self.burst_jobs += len(payloads)
                return len(payloads)
        raise RuntimeError(f"could not enqueue a burst in {TRIES} tries")

    def reconcile(self) -> None:
        """Ask, through the inbox, that plan, database and chain be compared once more."""
        self._ask_inbox(f"{self._options.seed}-last")

    def _run(self) -> None:
        limit = self._options.waves
        try:
            while not self._ended.is_set():
                self._approve()
                [(unfinished,)] = self._observer.rows(_OPEN)
                if self._enough.is_set() and self.waves:
                    if not self._observer.rows("SELECT 1 FROM payout_run WHERE state = 'planning'"):
                        self._approve()
                        return
                elif unfinished < self._options.waves_at_once and len(self.waves) != limit:
                    self._begin()
                self._ended.wait(REST_S)
        except BaseException as error:  # noqa: BLE001 - `finish` raises it
            self.error = error
            self._ended.set()

    def _begin(self) -> None:
        options, number = self._options, len(self.waves)
        wave = make_wave(number, options.holders, options.seed)
        file = wave.write(self._stage.folder)
        self.waves.append(wave)
        self._insist("bonds", "import", str(file), "--seed-mock-chain")
        file.unlink()
        self._insist("maturity", "trigger", wave.bond_id, "--by", "ada", done=wave.bond_id)
        self._ask_inbox(f"{options.seed}-{number}")

    def _approve(self) -> None:
        for run_id, plan_hash in self._observer.rows(_TO_APPROVE):
            self._insist("payouts", "approve", run_id, "--hash", plan_hash, "--by", "grace")

    def _insist(self, *arguments: str, done: str | None = None) -> None:
        """Run a command until it succeeds; `done`: or until this bond has a run."""
        for tried in range(TRIES):
            try:
                self._fleet.run(*arguments)
                return
            except CommandFailed as error:
                self.repeated_commands += 1
                if self._ended.wait(REST_S):
                    raise
                if done is not None and self._observer.rows(_RUN_OF, (done,)):
                    return  # its answer was lost
                if tried == TRIES - 1:
                    raise RuntimeError(f"tried {TRIES} times: {error}") from error

    def _ask_inbox(self, request: str) -> None:
        """Ask for a reconciliation as another program does, and again, until it is confirmed."""
        self.inbox_ids.add(request)
        asked = {
            "version": INBOX_VERSION,
            "source": SOURCE,
            "id": request,
            "job_type": JobType.PAYOUT_RECONCILE.value,
            "payload": {"slot_id": f"{SOURCE} {request}"},
        }
        body = {
            "queue_name": INBOX_QUEUE, "actor_name": INBOX_ACTOR, "args": [asked], "kwargs": {},
            "options": {}, "message_id": request, "message_timestamp": 0,
        }  # fmt: skip
        confirmed = 0
        while confirmed < SENT and not self._ended.is_set():
            try:
                self._send(json.dumps(body).encode())
                confirmed += 1
            except BROKER_AWAY:
                self._ended.wait(REST_S)

    def _send(self, body: bytes) -> None:
        parameters = pika.URLParameters(self._stage.proxied_amqp_url)
        parameters.socket_timeout = parameters.stack_timeout = 5
        parameters.blocked_connection_timeout = 5
        parameters.heartbeat = 4
        with closing(pika.BlockingConnection(parameters)) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            channel.basic_publish(
                "", INBOX_QUEUE, body, pika.BasicProperties(delivery_mode=2), mandatory=True
            )
