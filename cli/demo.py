"""`overnight demo`: a bond with a thousand holders is paid, here, now, and checked.

Ctrl-C leaves nothing running; the next demo goes on where this one stopped.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated

import typer

from domain.errors import InvalidInput
from settings import Settings, load_settings

INTERRUPTED = 130
MAX_HOLDERS = 100_000

#: Ten of the mock chain's blocks: what is not mined by then was dropped.
REBROADCAST_AFTER_S = 1.0

_EPILOG = """Examples:

  overnight demo

  overnight demo --holders 10000 --seed 7

Everything is kept in OVERNIGHT_HOME (default: .overnight); delete that folder to start over."""


def add_to(app: typer.Typer) -> None:
    """Mount the command on the root."""
    app.command(epilog=_EPILOG)(demo)


def demo(
    holders: Annotated[int, typer.Option(min=1, max=MAX_HOLDERS, help="Of a new bond.")] = 1_000,
    seed: Annotated[int, typer.Option(help="Of the holders and of the chain's faults.")] = 1,
) -> None:
    """Pay a bond with a thousand holders on this machine, and check it against the chain.

    Starts a private PostgreSQL and a mock chain that loses answers and transactions. An unfinished
    demo is taken up again. Holders who are not whitelisted are held: that is expected.
    """
    settings = _embedded(load_settings())
    with _ending_by_signal(settings):
        from cli.demo_run import run_demo  # everything that runs jobs: not for the other commands

        code = run_demo(settings, holders, seed)
    raise typer.Exit(code)


def _embedded(settings: Settings) -> Settings:
    if settings.environment == "production":
        raise InvalidInput("the demo never runs with ENVIRONMENT=production")
    alone = {"database_url": None, "amqp_url": None, "mock_chain_url": None}
    quick = {"rebroadcast_after_s": REBROADCAST_AFTER_S, "loop_interval_ms": 100}
    return settings.model_copy(update={**alone, **quick})


@contextmanager
def _ending_by_signal(settings: Settings) -> Iterator[None]:
    """SIGTERM ends like Ctrl-C: in order, with a word on how to go on."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the end takes a moment: let it
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {n: signal.signal(n, interrupt) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt:
        _say(f"stopped; nothing is left running. {settings.overnight_home.absolute()} remembers:")
        _say("the next `make demo` (or `overnight demo`) goes on from here")
        raise typer.Exit(INTERRUPTED) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(text: str) -> None:
    typer.echo(text)
