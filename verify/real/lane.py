"""The real lane: real processes on real servers, killed in every way, and then judged.

    stage → fleet → waves ∥ process hand ∥ service hand → everything converges → judge, measure

Everything ends with the lane, however it ends.
"""

import logging
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from mocks.chain import MockChain
from verify.real.fleet import Fleet
from verify.real.observer import Observer
from verify.real.options import Fault, RealOptions
from verify.real.plan import Step, make_plan
from verify.real.processes import ProcessHand
from verify.real.record import Record
from verify.real.report import RealReport
from verify.real.sampler import Sampler
from verify.real.services import ServiceHand
from verify.real.stage import Stage, stage
from verify.real.verdict import make_report
from verify.real.waves import Waves

Progress = Callable[[str], None]

#: How many of the chain's calls meet a fault.
CHAIN_FAULT_RATE = 0.02

#: Nothing waits longer than a job that killed five workers (5 min); then it is stuck.
CONVERGE_S = 420.0

#: How often progress is told, and the end looked for.
TELL_EVERY_S = 5.0
LOOK_EVERY_S = 0.25

_UNFINISHED = """
SELECT (SELECT count(*) FROM payout_run WHERE state <> 'finished')
     + (SELECT count(*) FROM job_outbox)
"""


def run_real_lane(options: RealOptions, on_progress: Progress = lambda text: None) -> RealReport:
    """Run one lane to its end. Takes minutes; the report says whether everything held.

    Raises ServerMissing where PostgreSQL or RabbitMQ can't be had.
    """
    logging.getLogger("pika").setLevel(logging.CRITICAL)  # lost connections are the point
    with _folder(options) as folder:
        on_progress(f"starting PostgreSQL, a chain and RabbitMQ in {folder}")
        with stage(folder) as world:
            report = _Lane(options, world, on_progress).run()
        if report.ok and options.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
        elif not report.ok:
            on_progress(f"the logs are kept in {folder}")
    return report


class _Lane:
    """One lane on its stage."""

    def __init__(self, options: RealOptions, world: Stage, tell: Progress) -> None:
        self.options, self.world, self.tell = options, world, tell
        self.ended = threading.Event()
        self.record = Record()
        self.observer = Observer(lambda: world.database_url, self.ended)
        self.plan = make_plan(options)
        self.steps_done = 0
        self.chain_faults: Counter[str] = Counter()

    def run(self) -> RealReport:
        began = time.monotonic()
        logs = self.world.folder / "logs"
        logs.mkdir()
        fleet = Fleet(self.world.environment, logs, self.ended)
        in_order = False
        try:
            self._prepare(fleet)
            waves = Waves(self.options, self.world, fleet, self.observer, self.ended)
            sampler = Sampler(self.world, fleet, self.observer)
            sampler.start()
            try:
                services = self._havoc(fleet, waves)
                self._converge(waves, services)
            finally:
                sampler.stop()
            wallet = fleet.read("wallet", "show")
            fleet.stop()
            in_order = True
        finally:
            self.ended.set()
            if not in_order:
                fleet.stop(kill=True)
        self._write_timeline()
        return make_report(
            self.options, self.world, self.observer, self.record, waves, sampler,
            ended=fleet.ended,
            tokens=wallet["tokens"],
            chain_faults=dict(+self.chain_faults),
            seconds=time.monotonic() - began,
        )  # fmt: skip

    def _write_timeline(self) -> None:
        """When each fault began and ended, in seconds, for whoever reads the logs."""
        timeline = sorted(self.record.injected, key=lambda each: each.begin)
        start = timeline[0].begin if timeline else 0.0
        lines = [f"{i.begin - start:8.1f} {i.end - start:8.1f}  {i.fault}" for i in timeline]
        (self.world.folder / "timeline.txt").write_text("\n".join(lines) + "\n")

    def _prepare(self, fleet: Fleet) -> None:
        fleet.run("migrate")
        self.observer.install()
        wallet = fleet.read("wallet", "show")["address"]
        with closing(MockChain(self.world.chain_url)) as chain:
            chain.fund(wallet, token_units=10**18, coin_units=10**12)
            chain.seed_faults(self.options.seed, CHAIN_FAULT_RATE)
        for number in range(self.options.workers):
            fleet.start(f"worker-{number}", "worker")
        fleet.start("relay", "relay")
        fleet.start("scheduler", "scheduler")
        ready = "SELECT 1 FROM worker OFFSET %s"
        if not self.observer.until(ready, 60, (self.options.workers - 1,)):
            raise RuntimeError(f"the workers did not start: see {self.world.folder / 'logs'}")
        self.tell(f"{self.options.workers} workers, a relay and the scheduler are at work")

    def _havoc(self, fleet: Fleet, waves: Waves) -> ServiceHand:
        """Both hands at work, until their plans are done and every run has its approval."""
        processes = ProcessHand(fleet, self.observer, self.record, self.ended)
        services = ServiceHand(self.world, self.observer, waves, self.record, self.ended)
        hands = [
            threading.Thread(target=self._guard, args=(work, steps), daemon=True)
            for work, steps in (
                (processes.work, self.plan.processes), (services.work, self.plan.servers)
            )
        ]  # fmt: skip
        waves.start()
        try:
            for hand in hands:
                hand.start()
            while any(hand.is_alive() for hand in hands):
                hands[0].join(TELL_EVERY_S)
                hands[1].join(0 if hands[0].is_alive() else TELL_EVERY_S)
                self._tell_progress(waves)
            if self.record.errors:
                raise RuntimeError("; ".join(self.record.errors))
            processes.let_go()
            waves.finish()
        except BaseException:
            self.ended.set()
            raise
        finally:
            processes.stop()
            for hand in hands:  # none may start a server that is being deleted
                if hand.ident is not None:
                    hand.join()
            waves.join()
        return services

    def _guard(
        self, work: Callable[[tuple[Step, ...], Callable[[Step], None]], None],
        steps: tuple[Step, ...],
    ) -> None:  # fmt: skip
        """A hand that fails gives the lane up."""
        try:
            work(steps, lambda step: self._count())
        except BaseException as error:  # noqa: BLE001 - the lane's own thread raises it
            self.record.errors.append(f"{type(error).__name__}: {error}")
            self.ended.set()

    def _count(self) -> None:
        self.steps_done += 1

    def _tell_progress(self, waves: Waves) -> None:
        counts = self.record.counts()
        total = len(self.plan.processes) + len(self.plan.servers)
        self.tell(
            f"{self.steps_done}/{total} faults: {counts[Fault.WORKER_KILL]} workers,"
            f" {counts[Fault.BROKER_KILL]} brokers, {counts[Fault.POSTGRES_STOP]} PostgreSQLs;"
            f" {len(waves.waves)} runs"
        )

    def _converge(self, waves: Waves, services: ServiceHand) -> None:
        """No fault any more: everything must come to its end by itself, twice, and then agree."""
        self.tell("no more faults: waiting for everything to come to its end")
        with closing(MockChain(self.world.chain_url)) as chain:
            for rule in chain.faults():
                self.chain_faults[rule.kind.value] += rule.hits
            chain.clear_faults()
        self._until_idle()
        self.tell("the broker is killed in the calm, and comes back to ten times too much")
        services.finish(self.plan.last)
        waves.reconcile()
        asked = "SELECT 1 FROM inbox_message OFFSET %s"
        self.observer.until(asked, CONVERGE_S, (len(waves.inbox_ids) - 1,))
        self._until_idle()

    def _until_idle(self) -> None:
        give_up_at = time.monotonic() + CONVERGE_S
        told_at = time.monotonic()
        while time.monotonic() < give_up_at:
            [(unfinished,)] = self.observer.rows(_UNFINISHED)
            if not unfinished:
                return
            if time.monotonic() > told_at + TELL_EVERY_S:
                told_at = time.monotonic()
                self.tell(f"{unfinished} runs and jobs are under way")
            self.ended.wait(LOOK_EVERY_S)


@contextmanager
def _folder(options: RealOptions) -> Iterator[Path]:
    """Where everything is: given, or temporary. Removed by the lane when all held."""
    if options.folder is not None:
        options.folder.mkdir(parents=True, exist_ok=True)
        yield options.folder.absolute()
    else:
        yield Path(tempfile.mkdtemp(prefix="overnight-real-"))
