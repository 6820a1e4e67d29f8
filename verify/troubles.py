"""Troubles between two points: blocks and reorgs, time, and the broker's connection.

Each is chosen by the dice, done at once, and counted.
"""

import random
from datetime import timedelta

from mocks.chain import MockChain
from verify.broker import SimulatedBroker
from verify.clock import Clock
from verify.trace import Trace

#: Blocks above the final one, on the mock chain of every schedule.
FINALITY_DEPTH = 2

#: The furthest that the clock steps back: an hour, as by a wrong zone.
CLOCK_BACK_S = 3600

#: Whoever sleeps in a transaction for longer loses it: see models.database.
FROZEN_AFTER = timedelta(seconds=8)


class Troubles:
    """The outside world of one schedule."""

    def __init__(
        self,
        dice: random.Random,
        trace: Trace,
        chain: MockChain,
        clock: Clock,
        broker: SimulatedBroker,
    ) -> None:
        self._dice, self._trace = dice, trace
        self._chain, self._clock, self._broker = chain, clock, broker

    def mine(self) -> None:
        """Some blocks, with what waits in the mempool."""
        blocks = self._dice.choice((1, 1, 1, 2, 3))
        self._trace.add(f"mine {blocks}: height {self._chain.mine(blocks)}")

    def let_time_pass(self, seconds: float | None = None) -> timedelta:
        """So much, or a moment, or hours; sometimes back. Returns how far the clock went."""
        roll = self._dice.random()
        if seconds is not None:
            by = timedelta(seconds=seconds)
        elif roll < 0.75:
            by = timedelta(seconds=self._dice.choice((0.2, 1, 1, 2, 5)))
        elif roll < 0.90:
            by = timedelta(seconds=self._dice.choice((8, 12, 70)))
        elif roll < 0.96:
            by = timedelta(hours=self._dice.choice((1, 24, 24 * 31)))
        else:
            by = -timedelta(seconds=self._dice.choice((1, 10, CLOCK_BACK_S)))
        if by < timedelta(0):
            self._trace.fault("clock moved back", str(by))
        elif by > timedelta(seconds=6):
            self._trace.fault("clock leaps", str(by))
        self.move_clock(by)
        return by

    def move_clock(self, by: timedelta) -> None:
        """So far, and no trouble in itself."""
        self._clock.move(by)
        self._trace.add(f"clock {self._clock.now.isoformat()}")

    def wait(self, seconds: float) -> None:
        """A strand that would sleep: it has the baton, so nothing else happens meanwhile."""
        self.move_clock(timedelta(seconds=seconds))

    def break_broker(self) -> None:
        """Its connection ends; the messages are there afterwards, or not."""
        if self._dice.random() < 0.5:
            self._broker.end_epoch(lose=lambda _: False)
            self._trace.fault("broker's connection ends", "nothing is lost")
        else:
            gone = self._broker.end_epoch(lose=lambda _: self._dice.random() < 0.7)
            self._trace.fault("broker loses messages", str(gone))

    def trouble_chain(self) -> None:
        """A transaction is forgotten, or blocks are replaced that were not final."""
        if self._dice.random() < 0.4:
            if pending := self._chain.pending():
                self._chain.drop(self._dice.choice(pending))
                self._trace.fault("transaction dropped", f"of {len(pending)}")
            return
        if self._chain.head().height <= FINALITY_DEPTH + 1:
            return
        depth = self._dice.randint(1, FINALITY_DEPTH)
        forget, reinclude = self._dice.choice((None, (), ())), self._dice.random() < 0.3
        height = self._chain.reorg(depth, forget, reinclude=reinclude)
        self._trace.fault("reorg", f"depth {depth}, forgets {forget is None}, height {height}")
