"""Progress of long work on stderr: a live bar on a terminal, now and then a line elsewhere."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, SpinnerColumn, Task
from rich.progress import Progress as RichProgress
from rich.text import Text

from cli.output import remark

#: Without a terminal: a line at most this often, and none for work that ends sooner.
LINE_EVERY_S = 2.0

#: Looking at the clock costs more than counting: do it every so many steps.
_STEPS_PER_LOOK = 256


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0:,.0f} {self._unit}/s")


class Progress:
    """Counts and rate of one piece of work; `total` may be unknown. Slow steps show at once."""

    def __init__(
        self, what: str, total: int | None = None, unit: str = "rows", *, slow: bool = False
    ) -> None:
        self._what, self._total, self._unit = what, total, unit
        self._steps_per_look = 1 if slow else _STEPS_PER_LOOK
        self._done = self._counted = 0
        self._began = self._said = time.monotonic()
        self._bar: RichProgress | None = None
        if sys.stderr.isatty():
            self._bar = RichProgress(
                SpinnerColumn(),
                "{task.description}",
                BarColumn(),
                MofNCompleteColumn(),
                _Rate(unit),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task(what, total=total)

    def __enter__(self) -> "Progress":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()

    def advance(self, steps: int = 1) -> None:
        """So much more is done."""
        self._done += steps
        self._counted += 1
        if self._counted % self._steps_per_look == 0 or steps > 1:
            self._show()

    def _show(self) -> None:
        now = time.monotonic()
        if self._bar:
            self._bar.update(self._task, completed=self._done)
        elif now - self._said >= LINE_EVERY_S:
            self._said = now
            rate = self._done / (now - self._began)
            of = f" of {self._total:,}" if self._total else ""
            remark(f"{self._what}: {self._done:,}{of} {self._unit}, {rate:,.0f}/s")
