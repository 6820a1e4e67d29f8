"""One schedule: a seed's worth of trouble, then calm, then the truth.

    setup → trouble (start | resume | mine | reorg | time | act …)* → calm until done → check

Everything is chosen by one sequence of dice. In the calm nothing is lost any more and every loop
gets its turn: whatever has not come to its end then never will.
"""

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import jobs.actor
from actors.wiring import payout_loops
from domain import ids
from domain.slots import SCHEDULES
from domain.slots import Schedule as NightlySchedule
from jobs.loops import Loop, worker_loops
from jobs.rescue import DEAD_AFTER
from mocks.chain import MockSigner
from providers.ports import Ports, use_ports
from settings import Settings
from usecases.schedule import open_due_slots
from verify.broker import SimulatedBroker
from verify.chaos import Chaos, WatchedPort, me
from verify.clock import Clock
from verify.connections import switchboard
from verify.crew import WORKERS, Crew, GivenUp
from verify.flow import ALL_LOOPS_EVERY, WALLET_KEY, Stage, flows
from verify.lab import Lab
from verify.need import NEED, Need
from verify.processes import Process, batch_of
from verify.strands import Strand
from verify.trace import Trace
from verify.troubles import FINALITY_DEPTH, FROZEN_AFTER, Troubles

#: Steps of trouble: for a whole run, or for some of it.
STEPS = (25, 45, 70, 100)

#: A flow that is done before its trouble ends needs no more of it.
DONE_EVERY = 8

#: After how many of them the books are checked, too.
MIDWAY = 0.05

#: In the calm they are checked once in so many rounds.
LOOK_EVERY = 4

#: What has not come to its end after so many rounds of calm never will.
CALM_ROUNDS = 60

#: How often each loop is chosen, beside the others.
LOOP_WEIGHTS = {"settlement": 2.0, "sweep": 2.0, "slots": 0.2}

#: For so many steps a worker stands still: long enough for somebody else to do its work.
FROZEN_STEPS = (8, 16, 30)

#: A message that is delivered comes once more, that often.
DELIVERED_TWICE = 0.06


@dataclass(frozen=True)
class Outcome:
    """What a schedule came to."""

    violations: list[str]
    trace: Trace
    steps: int


class Schedule:
    """The scheduler of one seed."""

    def __init__(self, lab: Lab, flow_name: str, seed: int) -> None:
        self.lab, self._name = lab, f"{flow_name}:{seed}"
        self.dice = self._dice_for("")
        self.trace, self.steps = Trace(), 0
        self._thaw_at = 0
        self.flow = flows()[flow_name]()

    def run(self) -> Outcome:
        """From an empty database to the verdict."""
        ids.seed(self.dice.getrandbits(64))
        handlers = jobs.actor._handlers
        if self.flow.handlers is not None:
            jobs.actor._handlers = self.flow.handlers
        try:
            self._begin()
            with suppress(GivenUp):
                for _ in range(self.dice.choice(STEPS) + self.flow.more_steps):
                    self._step()
                    if self.steps % DONE_EVERY == 0 and self.flow.is_done():
                        break
                self._calm()
            self.crew.stop()
            violations = self.flow.check() if not self.crew.violations else self._and_why()
        except BaseException:
            self.crew.stop()
            raise
        finally:
            switchboard.points = None
            jobs.actor._handlers = handlers
            ids.seed(None)
        return Outcome(violations, self.trace, self.steps)

    def _begin(self) -> None:
        chain = self.lab.chain
        self.lab.reset()
        clock = Clock(self.lab.execute, self.dice.choice(self.flow.nights))
        flow = self.flow
        self.chaos = Chaos(
            self.dice, self.trace, chain.drop, flow.targets, flow.calls, flow.pauses,
            self._dice_for("second strike"),
        )  # fmt: skip
        use_ports(
            Ports(
                WatchedPort("chain", chain, self.chaos),
                WatchedPort("registry", self.lab.registry, self.chaos),
                WatchedPort("signer", MockSigner(WALLET_KEY), self.chaos),
            )
        )
        self.broker = SimulatedBroker()
        self.crew = Crew(self.lab, self.chaos, self.broker, list(self.flow.queues))
        self.troubles = Troubles(self.dice, self.trace, chain, clock, self.broker)
        settings = Settings.model_construct(loop_interval_ms=250)
        slots = partial(open_due_slots, self._own_schedules())
        loops = [*worker_loops(), *payout_loops(settings), Loop("slots", slots)]
        wanted = self.flow.loops
        self.loops = {loop.name: loop for loop in loops if wanted is None or loop.name in wanted}
        self.flow.setup(
            Stage(
                self.dice, self._dice_for, chain, clock, self.trace, self.lab.execute, self.broker,
                lambda why: self.chaos.kill(me(), why),
                lambda name, port: WatchedPort(name, port, self.chaos),
                self._let_time_pass, self.troubles.wait, self.lab.empty_folder(),
            )
        )  # fmt: skip
        if flow.more_steps:
            self.chaos.strike_late(flow.late_targets, self._dice_for("late strike"))
        switchboard.monitor, switchboard.points = self.lab.monitor, self.chaos

    def _own_schedules(self) -> list[NightlySchedule]:
        """Those whose jobs this flow runs: another flow's would wait for ever."""
        return [each for each in SCHEDULES if each.job_type.spec.queue in self.flow.queues]

    def _dice_for(self, what: str) -> random.Random:
        return random.Random(self._name + what)  # noqa: S311 - replayable on purpose

    # Trouble.

    def _step(self) -> None:
        """Mostly what brings the work on, so that trouble meets all of it; sometimes anything."""
        self.steps += 1
        if self.steps >= self._thaw_at:
            self.crew.frozen = None
        if self.chaos.to_freeze is not None:
            self._freeze([w for w in self.crew.workers if w is self.chaos.to_freeze and w.strands])
            self.chaos.to_freeze = None
        need = self._need()
        busy = need.due or self.broker.waiting
        later = 0 if busy or need.operations or need.next_due_s is None else 12
        options: list[tuple[float, Callable[[], object]]] = [
            (16 if need.due else 0.5, self._some_relay),
            (12 if need.operations else 0.5, partial(self._some_loop, "settlement")),
            (12 if need.operations else 0.5, self.troubles.mine),
            (1 if busy else 6, partial(self._some_loop, "sweep")),
            (1.5, self._some_loop),
            (12 if self.crew.frozen else 4 if need.claimed else 0.3, self._miss_the_dead),
            (2, partial(self._let_time_pass, None)),
            (later, partial(self._let_time_pass, need.next_due_s)),
            (0.7, self.troubles.break_broker),
            (1.5 if need.operations else 0.2, self.troubles.trouble_chain),
            (self.flow.eagerness(), self._some_act),
        ]
        if self.crew.frozen is None:
            busy_workers = [worker for worker in self.crew.workers if worker.strands]
            options.append((1, partial(self._freeze, busy_workers)))
        if self.broker.waiting:
            options.append((30, self._some_delivery))
        if paused := self.crew.resumable():
            options.append((14 * len(paused), partial(self._resume_one_of, paused)))
        weights = [weight for weight, _ in options]
        self.dice.choices([run for _, run in options], weights)[0]()
        if self.dice.random() < MIDWAY:
            self._check_midway()

    def _check_midway(self) -> None:
        for found in self.flow.check_midway():
            self.crew.violate(found)

    def _and_why(self) -> list[str]:
        """Whoever never comes to an end may have broken a rule on the way."""
        return list(dict.fromkeys(self.crew.violations + self.flow.check_midway()))

    def _some_act(self) -> None:
        acts = self.flow.acts()
        self.crew.act(self.dice.choices(acts, [act.weight for act in acts])[0])

    def _freeze(self, busy: list[Process]) -> None:
        """A worker at work stands still, its threads in the middle of something."""
        if not busy:
            return
        worker = self.dice.choice(busy)
        self.crew.frozen = worker
        self._thaw_at = self.steps + self.dice.choice(FROZEN_STEPS)
        self.trace.fault("worker frozen", worker.name)

    def _miss_the_dead(self) -> None:
        """Time enough for the rescue to believe that silent workers are dead; some are not."""
        process = self.crew.worker_with_room()
        if process is None:
            return
        if self.dice.random() < 0.7:
            self.troubles.move_clock(DEAD_AFTER + timedelta(seconds=1))
            self.crew.loop(process, self.loops["heartbeat"])
        self.crew.loop(process, self.loops["rescue"])

    def _resume_one_of(self, paused: list[Strand]) -> None:
        self.crew.resume(self.dice.choice(paused))

    def _some_delivery(self) -> None:
        process = self.crew.worker_with_room()
        if process is None:
            return
        message = self.dice.choice(self.broker.waiting)
        self.crew.deliver(process, batch_of(self.broker, message, self.dice.choice((1, 3, 25))))
        if self.dice.random() < DELIVERED_TWICE:
            self.trace.fault("delivered twice", message.job_type.value)
            self.broker.waiting.append(message)

    def _some_relay(self) -> None:
        process = self.crew.worker_with_room()
        if process is not None:
            self.crew.relay(process)

    def _some_loop(self, name: str | None = None) -> None:
        process = self.crew.worker_with_room()
        if name is None:
            weights = [LOOP_WEIGHTS.get(each, 1.0) for each in self.loops]
            name = self.dice.choices(list(self.loops), weights)[0]
        if process is not None and name in self.loops:
            self.crew.loop(process, self.loops[name])

    def _let_time_pass(self, seconds: float | None) -> None:
        if self.troubles.let_time_pass(seconds) > FROZEN_AFTER:
            self.crew.end_idle_transactions()

    # Calm.

    def _calm(self) -> None:
        self.chaos.active = False
        self.trace.add("calm")
        self.crew.frozen = None
        self.crew.finish_all()
        for number in range(CALM_ROUNDS):
            if number % LOOK_EVERY == 0:
                self._check_midway()  # before the calm mends it
            if self.flow.is_done():
                return
            for act in self.flow.calm():
                self.crew.act(act)
            self._calm_round(number)
        self.crew.violate(f"not done after {CALM_ROUNDS} rounds of calm: {self._need()}")

    def _calm_round(self, number: int) -> None:
        """Every loop that has something to do, and now and then all of them."""
        worker = self.crew.workers[number % WORKERS]
        everything = number % ALL_LOOPS_EVERY == ALL_LOOPS_EVERY - 1
        need = self._need()
        turned = {"heartbeat", "rescue", "settlement", "sweep", "slots"}
        if need.claimed or everything:
            self.troubles.move_clock(DEAD_AFTER + timedelta(seconds=1))
            self.crew.loop(worker, self.loops["heartbeat"])
            self.crew.loop(worker, self.loops["rescue"])
        if need.due or everything:
            self.crew.relay(worker, [] if everything else need.queues)
        self.crew.deliver_all(worker)
        if need.operations or (everything and "settlement" in self.loops):
            self.lab.chain.mine(FINALITY_DEPTH + 1)
            self.crew.loop(worker, self.loops["settlement"])
        if everything:
            for name in sorted(self.loops.keys() - turned):
                self.crew.loop(worker, self.loops[name])
        if "sweep" in self.loops:
            self.crew.loop(worker, self.loops["sweep"])
        busy = need.due or need.operations
        wait_s = 1.0 if busy else need.next_due_s or 1.0
        self.troubles.move_clock(timedelta(seconds=max(wait_s, 1.0)))

    def _need(self) -> Need:
        return Need(*self.lab.execute(NEED)[0])
