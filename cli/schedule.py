"""`overnight schedule`: the scheduler process, what it opened last, and what it opens next.

periodiq schedules, supervised → a tick each minute → a worker opens the slots that are due
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from types import FrameType
from typing import Annotated

import typer

from cli import compose
from cli.output import AsJson, print_json, print_table, remark
from domain.errors import InvalidInput
from domain.research import ResearchJob
from settings import load_settings

app = typer.Typer(
    help="Open the nightly slots at their time; see them.", invoke_without_command=True
)

#: periodiq ends when the broker is down at a tick: it is started again, less often each time.
BACKOFF_MIN_S, BACKOFF_MAX_S = 1.0, 30.0

#: Alive for this long, it had a broker: the next start is quick again.
SOUND_S = 90.0

#: Without RabbitMQ this process looks for due slots itself.
LOOK_S = 20.0

#: How long periodiq gets to end by itself.
END_S = 10.0

_PERIODIQ = (
    sys.executable, "-c", "from periodiq import entrypoint; entrypoint()", "schedules",
)  # fmt: skip


@app.callback(
    epilog="Plain `periodiq schedules` does the same, but ends when the broker is down at a tick."
)
def schedule(
    context: typer.Context,
    run_now: Annotated[
        bool, typer.Option("--run-now", help="Run the nightly jobs now instead; in development.")
    ] = False,
) -> None:
    """Send a tick each minute until SIGTERM or Ctrl-C; workers open the slots that are due.

    Survives a broker that is away. Any number of schedulers open one slot each.
    """
    if context.invoked_subcommand is not None:
        return
    settings = load_settings()
    if run_now:
        if settings.environment == "production":
            raise InvalidInput("--run-now is for development: use `overnight nightly --all`")
        from cli.nightly import run

        raise typer.Exit(run(list(ResearchJob), as_json=False))
    with _Stop() as stop:
        if settings.amqp_url is None:
            _look_for_slots(stop)
        else:
            with compose.database() as located:
                assert located.database_url is not None
                url = located.database_url.get_secret_value()  # of a private server, too
                supervise(_PERIODIQ, stop, {**os.environ, "DATABASE_URL": url})


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the schedules: last slot and what became of it, next slot, and why."""
    from usecases.schedule import schedule_states

    with compose.database():
        states = schedule_states()
    if as_json:
        print_json(states)
        return
    print_table(
        ("schedule", "zone", "last slot", "outcome", "why", "next slot", "in UTC"),
        [
            (
                state.name, state.zone,
                None if state.last is None else state.last.local_date,
                "-" if state.last is None else state.last.outcome,
                state.why, _local(state.next_at),
                state.next_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M")
                + (" (overdue)" if state.overdue else " (due)" if state.last is None else ""),
            )
            for state in states
        ],
    )  # fmt: skip


def supervise(
    command: tuple[str, ...], stop: threading.Event, env: Mapping[str, str] | None = None
) -> None:
    """Keep a process running until `stop`, with backoff between its starts."""
    backoff_s = BACKOFF_MIN_S
    while not stop.is_set():
        began = time.monotonic()
        process = subprocess.Popen(command, env=env)  # noqa: S603 - our own interpreter
        try:
            while process.poll() is None and not stop.wait(0.2):
                pass
        finally:
            _end(process)
        if stop.is_set():
            return
        lived_s = time.monotonic() - began
        backoff_s = BACKOFF_MIN_S if lived_s > SOUND_S else backoff_s
        remark(
            f"the scheduler ended (exit code {process.returncode}) after {lived_s:.0f} s; again in"
            f" {backoff_s:.0f} s. No slot is lost: the next tick opens what is due."
        )
        stop.wait(backoff_s)
        backoff_s = min(2 * backoff_s, BACKOFF_MAX_S)


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _look_for_slots(stop: threading.Event) -> None:
    """Without RabbitMQ nobody could hear a tick: open the slots here."""
    from models.database import CONNECTION_ERRORS, reconnect
    from usecases.schedule import open_due_slots

    with compose.database():
        remark("AMQP_URL is not set: slots open here, and `overnight worker` runs their jobs")
        while not stop.is_set():
            try:
                open_due_slots()
            except CONNECTION_ERRORS as error:
                remark(f"the database: {' '.join(str(error).split())}; again in {LOOK_S:.0f} s")
                reconnect()
            stop.wait(LOOK_S)


class _Stop:
    """SIGTERM and SIGINT set an event while inside."""

    def __enter__(self) -> threading.Event:
        self._event = threading.Event()
        numbers = (signal.SIGTERM, signal.SIGINT)
        self._before = {number: signal.signal(number, self._set) for number in numbers}
        return self._event

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _set(self, _number: int, _frame: FrameType | None) -> None:
        self._event.set()


def _local(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M %Z")
