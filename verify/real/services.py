"""The hand that takes servers, network and chain away, and gives them back.

    step → rest → broker | PostgreSQL | proxy | connections | chain | overload → there again

A step ends when what it took away answers again, so two of these faults never hide each other.
"""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing

import psycopg2

from mocks.chain import MockChain
from verify.real.observer import RETRY_S, Observer
from verify.real.options import Fault
from verify.real.plan import Step
from verify.real.proxy import Proxy
from verify.real.record import Record
from verify.real.stage import Stage
from verify.real.waves import Waves

#: How long requests pass and answers don't, before a cut: commits whose outcome nobody learns.
ANSWERS_LOST_S = 0.3

#: Added to each direction while the network is slow.
DELAY_S = 0.05

#: Below the mock chain's finality depth of 3: a final block stays final.
REORG_DEPTH_MAX = 2


class ServiceHand:
    """Works through its steps."""

    def __init__(
        self, stage: Stage, observer: Observer, waves: Waves, record: Record, ended: threading.Event
    ) -> None:
        self._stage, self._observer, self._waves = stage, observer, waves
        self._record, self._ended = record, ended
        self._do: dict[Fault, Callable[[Step], None]] = {
            Fault.BROKER_KILL: self._kill_broker,
            Fault.POSTGRES_STOP: self._stop_postgres,
            Fault.CUT: self._cut,
            Fault.BLACK_HOLE: self._swallow,
            Fault.DELAY: self._delay,
            Fault.EXHAUSTION: self._exhaust,
            Fault.OVERLOAD: lambda step: self._overload(),
            Fault.REORG: self._reorganise,
        }

    def work(self, steps: tuple[Step, ...], done: Callable[[Step], None]) -> None:
        """All steps; returns early when the lane is given up."""
        for step in steps:
            if self._ended.wait(step.rest_s):
                return
            with self._record.injecting(step.fault):
                self._do[step.fault](step)
            if step.fault is Fault.BROKER_KILL:
                self._note_return()
            done(step)

    def finish(self, step: Step) -> None:
        """Kill the broker in the calm, and have ten times too much to do when it is back."""
        with self._record.injecting(step.fault), self._record.injecting(Fault.OVERLOAD):
            self._stage.rabbitmq.kill9()
            self._waves.overload()
            self._stage.rabbitmq.restart()
        self._note_return()

    def _kill_broker(self, step: Step) -> None:
        self._stage.rabbitmq.kill9()
        self._ended.wait(step.lasts_s)
        self._stage.rabbitmq.restart()

    def _note_return(self) -> None:
        self._record.returns.append(time.time())
        self._observer.note_backlog(len(self._record.returns) - 1)

    def _stop_postgres(self, step: Step) -> None:
        self._stage.postgres.immediate_stop()
        self._ended.wait(step.lasts_s)
        self._stage.postgres.restart()

    def _proxies(self, step: Step) -> list[Proxy]:
        """The database's, the broker's, or both."""
        both = [self._stage.database_proxy, self._stage.amqp_proxy]
        return [both[:1], both[1:], both][int(step.draw * 3)]

    def _cut(self, step: Step) -> None:
        answers_are_lost = int(step.draw * 1_000) % 2 == 0
        for proxy in self._proxies(step):
            if answers_are_lost:
                proxy.swallow("answers")
        if answers_are_lost:
            self._ended.wait(ANSWERS_LOST_S)
        for proxy in self._proxies(step):
            proxy.cut()
            proxy.forward()

    def _swallow(self, step: Step) -> None:
        for proxy in self._proxies(step):
            proxy.swallow()
        self._ended.wait(step.lasts_s)
        for proxy in self._proxies(step):
            if int(step.draw * 1_000) % 2 == 0:
                proxy.cut()
            proxy.forward()

    def _delay(self, step: Step) -> None:
        for proxy in self._proxies(step):
            proxy.delay(DELAY_S)
        self._ended.wait(step.lasts_s)
        for proxy in self._proxies(step):
            proxy.delay(0)

    def _exhaust(self, step: Step) -> None:
        """Take every connection that PostgreSQL has; half of the time the fleet's as well."""
        if int(step.draw * 1_000) % 2 == 0:
            self._stage.database_proxy.cut()
        ends_at = time.monotonic() + step.lasts_s
        with ExitStack() as held:
            while time.monotonic() < ends_at and not self._ended.is_set():
                try:
                    taken = psycopg2.connect(self._stage.database_url, connect_timeout=5)
                except psycopg2.OperationalError:
                    self._ended.wait(RETRY_S)  # full: take each that becomes free
                else:
                    held.enter_context(closing(taken))

    def _overload(self) -> None:
        self._waves.overload()

    def _reorganise(self, step: Step) -> None:
        """Undo the newest blocks; their transactions are mined again at once, later, or lost."""
        choice = int(step.draw * 1_000)
        with closing(MockChain(self._stage.chain_url)) as chain:
            chain.reorg(
                1 + choice % REORG_DEPTH_MAX,
                None if choice % 3 == 0 else (),
                reinclude=choice % 3 == 1,
            )
