"""A payout run for people: its accounting line, its live view, and the exit code it deserves."""

import sys
import time
from collections import deque
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from cli.output import DONE, FAILED, PARTIAL, remark
from domain.payouts import as_tokens
from models.database import CONNECTION_ERRORS, reconnect
from usecases.payouts.accounting import Accounting, Share
from usecases.payouts.views import RunView, show_run

#: How often a live view looks, and how often it says a line without a terminal.
LOOK_EVERY_S = 0.25
LINE_EVERY_S = 2.0

#: The rate is that of the last so many seconds.
RATE_WINDOW_S = 5.0

#: How long a restart of the database is waited out.
DATABASE_WAIT_S = 30.0

OVER = ("finished", "failed", "cancelled", "stopped")


def accounting_lines(line: Accounting, token: str, decimals: int) -> list[str]:
    """paid + held + failed + in flight = planned: holders, then amounts."""

    def amount(share: Share) -> str:
        return f"{as_tokens(share.units, decimals):,f}"

    parts = {
        "paid": line.paid, "held": line.held, "failed": line.failed, "in flight": line.in_flight,
    }  # fmt: skip
    holders = " + ".join(f"{name} {share.legs:,}" for name, share in parts.items())
    amounts = " + ".join(amount(share) for share in parts.values())
    return [
        f"{holders} = planned {line.planned.legs:,} holders",
        f"{amounts} = {amount(line.planned)} {token}",
    ]


def exit_code(view: RunView) -> int:
    """0 all paid, 3 finished with holds or failures or not finished, 1 failed or cancelled."""
    if view.summary.state in ("failed", "cancelled"):
        return FAILED
    line = view.accounting
    all_paid = view.summary.state == "finished" and line.paid == line.planned
    return DONE if all_paid else PARTIAL


@dataclass
class Rate:
    """Holders a second, over the last few seconds."""

    _points: deque[tuple[float, int]] = field(default_factory=deque)

    def at(self, done: int) -> float:
        """The rate now that `done` are done."""
        now = time.monotonic()
        self._points.append((now, done))
        while self._points[0][0] < now - RATE_WINDOW_S:
            self._points.popleft()
        then, before = self._points[0]
        return (done - before) / (now - then) if now > then else 0.0


def watch(run: str, timeout_s: float | None = None) -> RunView:
    """Show the run until it is over, or `timeout_s` has passed; returns how it stands."""
    rate, began, said, seen = Rate(), time.monotonic(), 0.0, ""
    terminal = sys.stderr.isatty()
    with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as live:
        while True:
            view = _look(run)
            now = time.monotonic()
            per_second = rate.at(view.accounting.paid.legs)
            over = view.summary.state in OVER
            if terminal:
                live.update(_picture(view, per_second, now - began), refresh=True)
            elif now - said >= LINE_EVERY_S or over or seen != view.summary.state:
                said, seen = now, view.summary.state
                remark(_line(view, per_second))
            if over or (timeout_s is not None and now - began >= timeout_s):
                return view
            time.sleep(LOOK_EVERY_S)


def _look(run: str) -> RunView:
    """The run now; a database that restarts is waited for."""
    give_up_at = time.monotonic() + DATABASE_WAIT_S
    while True:
        try:
            return show_run(run)
        except CONNECTION_ERRORS:
            reconnect()
            if time.monotonic() > give_up_at:
                raise
            time.sleep(LOOK_EVERY_S)


def states(view: RunView) -> str:
    """How many holders are in each state."""
    shares = view.accounting.by_state
    return ", ".join(f"{shares[name].legs:,} {name}" for name in _ORDER if name in shares)


_ORDER = ("planned", "burning", "burned", "paying", "paid", "held", "failed")


def _line(view: RunView, per_second: float) -> str:
    text = f"{view.summary.state}: {states(view) or 'planning'}, {per_second:,.0f} paid/s"
    return f"{text} ({view.summary.note})" if view.summary.note else text


def _picture(view: RunView, per_second: float, elapsed_s: float) -> Group:
    line, summary = view.accounting, view.summary
    ended = line.paid.legs + line.held.legs + line.failed.legs
    head = f"run {summary.id[:8]} of {summary.bond_id}: {summary.state}"
    parts: list[Text | ProgressBar] = [
        Text(f"{head}, {elapsed_s:,.0f} s, {per_second:,.0f} paid/s", style="bold"),
        ProgressBar(total=max(line.planned.legs, 1), completed=ended, width=60),
        Text(states(view) or "planning"),
        *map(Text, accounting_lines(line, summary.token, summary.token_decimals)),
    ]
    if summary.note:
        parts.append(Text(summary.note, style="yellow"))
    if view.wallet_halted:
        parts.append(Text(f"wallet halted: {view.wallet_halted}", style="bold red"))
    return Group(*parts)
