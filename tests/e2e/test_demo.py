"""`overnight demo` as a person meets it: fresh, interrupted, killed, resumed, twice at once."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import psutil
import pytest

from cli.demo_bond import bond_json

pytestmark = pytest.mark.e2e

OVERNIGHT = str(Path(sys.executable).with_name("overnight"))
WAIT_S = 120

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def start(home: Path) -> Iterator[Start]:
    """Start `overnight …` with a data folder of its own; what is left is killed."""
    started: list[subprocess.Popen[str]] = []
    kept = ("DATABASE_URL", "AMQP_URL", "MOCK_CHAIN_URL", "ENVIRONMENT")
    env = {name: value for name, value in os.environ.items() if name not in kept}

    def run(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [OVERNIGHT, *arguments],
            env={**env, "OVERNIGHT_HOME": str(home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=home.parent,
            start_new_session=True,  # a Ctrl-C of the tests is not theirs
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()
    wait_until_nothing_runs(home)


def wait_until_nothing_runs(home: Path) -> None:
    """No process works in the data folder or was started with it."""
    give_up_at = time.monotonic() + 20
    while left := [p.info for p in psutil.process_iter(["pid", "cmdline"])
                   if any(str(home) in part for part in p.info["cmdline"] or ())]:  # fmt: skip
        assert time.monotonic() < give_up_at, left
        time.sleep(0.1)


def ended(process: "subprocess.Popen[str]", code: int) -> str:
    out, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == code, out + err
    assert "Traceback" not in err
    return out + err


def until_paying(process: "subprocess.Popen[str]") -> None:
    """Read the demo's lines until money is on its way."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("paying"):
            return
    raise AssertionError("the demo ended before it paid")


def test_the_demo_pays_and_the_next_one_starts_a_new_bond(start: Start) -> None:
    first = ended(start("demo", "--holders", "120"), 0)
    assert "DEMO-0001: 120 holders" in first
    assert "plan, database and chain agree" in first
    assert "in flight 0 = planned 120 holders" in first
    second = ended(start("demo", "--holders", "30"), 0)
    assert "DEMO-0002: 30 holders" in second
    runs = json.loads(start("payouts", "list", "--json").communicate(timeout=WAIT_S)[0])
    assert [run["state"] for run in runs] == ["finished", "finished"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_demo_leaves_nothing_and_is_taken_up(
    start: Start, home: Path, number: signal.Signals
) -> None:
    interrupted = start("demo", "--holders", "700")
    until_paying(interrupted)
    interrupted.send_signal(number)
    told = ended(interrupted, -9 if number == signal.SIGKILL else 130)
    assert ("goes on from here" in told) == (number != signal.SIGKILL)
    wait_until_nothing_runs(home)
    resumed = ended(start("demo"), 0)
    assert "going on with it" in resumed
    assert "of DEMO-0001 is finished" in resumed
    assert "in flight 0 = planned 700 holders" in resumed


def test_a_second_demo_at_the_same_time_is_told_so(start: Start) -> None:
    first = start("demo", "--holders", "400")
    until_paying(first)
    first.send_signal(signal.SIGSTOP)  # or it may be done before the others have looked
    began = time.monotonic()
    assert f"another overnight process (pid {first.pid}, demo)" in ended(start("demo"), 1)
    assert time.monotonic() - began < 20
    runs = json.loads(ended(start("payouts", "list", "--json"), 0))
    assert len(runs) == 1  # a reading command works beside it
    first.send_signal(signal.SIGCONT)
    ended(first, 0)


def test_the_demo_never_runs_in_production() -> None:
    process = subprocess.run(
        [OVERNIGHT, "demo"],
        env={
            **os.environ,
            "ENVIRONMENT": "production",
            "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
            "AMQP_URL": "amqp://127.0.0.1:1",
        },
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    assert process.returncode == 2
    assert "never runs with ENVIRONMENT=production" in process.stderr


def test_an_embedded_worker_pays_what_another_command_triggered(start: Start, home: Path) -> None:
    home.parent.joinpath("bond.json").write_text(
        bond_json(7, holders=40, seed=2, matured=date(2026, 1, 31))
    )
    worker = start("worker")
    assert worker.stderr is not None
    assert any("worker ready" in line for line in worker.stderr)

    def run(*arguments: str, code: int = 0) -> str:
        return ended(start(*arguments), code)

    run("bonds", "import", "bond.json", "--seed-mock-chain")
    address = json.loads(run("wallet", "show", "--json"))["address"]
    run("mockchain", "fund", address, "--units", str(10**15), "--coin", str(10**9))
    followed = run("maturity", "trigger", "DEMO-0007", "--watch", code=3)  # some are held
    assert "no worker is alive" not in followed
    worker.send_signal(signal.SIGTERM)
    worker.stderr.read()
    assert worker.wait(30) == 0
