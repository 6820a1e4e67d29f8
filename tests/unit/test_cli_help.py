"""Every command explains itself: a sentence of purpose, a help for each option, exit code 0."""

from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from cli.main import app

COMMANDS = {
    "demo", "migrate", "worker", "relay",
    "bonds import", "bonds list", "bonds show",
    "maturity preview", "maturity trigger",
    "payouts list", "payouts show", "payouts watch", "payouts statement", "payouts reconcile",
    "payouts approve", "payouts stop", "payouts resume", "payouts retry", "payouts held",
    "payouts accept",
    "wallet show", "wallet halt", "wallet resume", "wallet adopt", "wallet resolve",
    "nightly", "nightly report", "companies add", "companies list", "companies show",
    "companies untrack", "companies deactivate", "metrics show", "metrics export",
    "schedule", "schedule list",
    "jobs stats", "jobs list", "jobs show",
    "jobs requeue", "jobs discard", "jobs cancel", "jobs pause", "jobs resume", "jobs prune",
    "jobs stray", "mockchain show",
}  # fmt: skip


def walk(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from walk(below, (*path, name))


ALL = list(walk(typer.main.get_command(app)))


def test_all_promised_commands_exist() -> None:
    assert {" ".join(path) for path, _ in ALL} >= COMMANDS


@pytest.mark.parametrize("path", [path for path, _ in ALL], ids=" ".join)
def test_help_of_every_command(path: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(app, [*path, "--help"])
    assert shown.exit_code == 0
    assert "Usage: overnight" in shown.output
    assert len(shown.output.split("\n\n")[1].strip()) > 15


@pytest.mark.parametrize(("path", "command"), ALL, ids=[" ".join(path) for path, _ in ALL])
def test_every_command_and_option_is_described(path: tuple[str, ...], command: Any) -> None:
    assert (command.help or "").strip().endswith(".")
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"{path}: {parameter.name} has no help"


@pytest.mark.parametrize("path", [path for path, _ in ALL], ids=" ".join)
def test_wrong_usage_is_exit_code_2(path: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(app, [*path, "--no-such-option"])
    assert shown.exit_code == 2
    assert "no-such-option" in shown.output.lower()
