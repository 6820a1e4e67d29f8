"""A fleet: real `overnight` processes on servers of their own, to be killed in any order."""

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_utils.address import to_checksum_address

OVERNIGHT = (sys.executable, "-m", "cli.main")


class Fleet:
    """Starts, kills and replaces `overnight` processes that share one environment."""

    def __init__(self, env: dict[str, str], logs: Path, project: Path) -> None:
        self.env = {**os.environ, **env}
        self.logs = logs
        self.project = project
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.started = 0

    def run(self, *arguments: str, timeout_s: float = 120) -> str:
        """Run one command to its end; its standard output."""
        done = subprocess.run(
            [*OVERNIGHT, *arguments],
            env=self.env,
            cwd=self.project,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def read(self, *arguments: str) -> Any:
        """Run a reading command with --json."""
        return json.loads(self.run(*arguments, "--json"))

    def start(self, name: str, command: str) -> None:
        """Start a long-running process under a name."""
        self.started += 1
        log = self.logs / f"{self.started:03d}-{name}.log"
        with log.open("wb") as stream:
            self.processes[name] = subprocess.Popen(
                [*OVERNIGHT, command],
                env=self.env,
                cwd=self.project,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )

    def kill(self, name: str) -> None:
        """SIGKILL, and reap."""
        process = self.processes[name]
        process.send_signal(signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        """SIGTERM to all that live; what does not end in time is killed."""
        for process in self.processes.values():
            if process.poll() is None:
                process.terminate()
        for process in self.processes.values():
            try:
                process.wait(timeout=70)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture
def fleets(tmp_path: Path, project: Path) -> Iterator[list[Fleet]]:
    """Every fleet that is appended here is stopped at the end."""
    fleets: list[Fleet] = []
    yield fleets
    for fleet in fleets:
        fleet.stop()


def address_of(number: int) -> str:
    """The checksummed address of a generated holder."""
    return str(to_checksum_address(f"0x{number:040x}"))


def bond_file(bond_id: str, holders: int, seed: int, unlisted_percent: int = 2) -> dict[str, Any]:
    """A matured bond with generated holders, some of them not whitelisted."""
    source = random.Random(seed)
    investors = [
        {
            "address": address_of(1_000_000 + number),
            "name": f"Holder {number}",
            "email": f"holder{number}@example.com",
            "whitelisted": source.randrange(100) >= unlisted_percent,
            "holdings": [
                {"token_id": 20_000 + index, "balance": str(source.randint(1, 500))}
                for index in range(source.randint(1, 3))
            ],
        }
        for number in range(holders)
    ]
    bond = {
        "id": bond_id,
        "name": "A bond of the tests",
        "contract": address_of(77),
        "token": "PLT",
        "token_decimals": 6,
        "face_value_per_token": "100.25",
        "maturity_date": "2026-01-31",
    }
    return {"bond": bond, "investors": investors}


@pytest.fixture
def make_fleet(fleets: list[Fleet], tmp_path: Path, project: Path) -> Any:
    """A fleet in an environment; it is stopped at the end of the test."""

    def make(env: dict[str, str]) -> Fleet:
        fleets.append(Fleet(env, tmp_path, project))
        return fleets[-1]

    return make


@pytest.fixture
def make_bond() -> Any:
    """Makes bond files: see `bond_file`."""
    return bond_file
