"""`overnight mockchain` does what it says on the same chain."""

import json
from typing import TYPE_CHECKING, Protocol

import pytest
from typer.testing import CliRunner

from cli.mockchain import build

if TYPE_CHECKING:
    from tests.contract.conftest import Desk


class Run(Protocol):
    """Run a command; returns what it printed."""

    def __call__(self, *arguments: str, code: int = 0) -> str: ...


@pytest.fixture
def run(desk: "Desk") -> Run:
    app = build(lambda: desk.chain)

    def run(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == code, result.output
        return result.output

    return run


def test_show_faults_and_steering(desk: "Desk", run: Run) -> None:
    holder = desk.holders[0]
    sent = run("send", "--key", "wallet", "--to", holder, "--units", "4")
    assert "nonce 0" in sent
    assert "nonce 1" in run("send", "--key", "wallet", "--to", holder, "--units", "5")
    shown = json.loads(run("show", "--json"))
    assert shown["pending"][0] in sent
    run("drop", shown["pending"][1])
    run("drop", shown["pending"][1], code=2)
    run("mine", "2")
    assert desk.paid() == 4
    run("reorg", "2")
    assert desk.paid() == 0
    run("reorg", "99", code=2)
    run("fund", holder, "--units", "7")
    assert desk.paid() == 7
    run("fund", holder, code=2)
    run("verify", holder)
    assert desk.chain.status().verified == 1
    run("unverify", holder)
    assert "mock-1" in run("show")


def test_faults(desk: "Desk", run: Run) -> None:
    run("fault", "answer_lost", "--times", "0", "--probability", "0.5")
    run("fault", "down", "--for-seconds", "60")
    rules = json.loads(run("faults", "--json"))
    assert [(r["kind"], r["times"]) for r in rules] == [("answer_lost", None), ("down", None)]
    assert "answer_lost" in run("faults")
    assert "cleared 1" in run("clear-faults", "down")
    run("seed-faults", "--seed", "3", "--rate", "0.1")
    run("clear-faults")
    assert desk.chain.faults() == []
