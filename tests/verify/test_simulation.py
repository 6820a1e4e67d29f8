"""The simulation itself: it replays exactly, it sees what is wrong, and it counts what it does."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg2
import pytest

from jobs.relay import Relay
from models.database import execute, fetch, reconnect, transaction
from verify.connections import SimulatedConnection, switchboard
from verify.flow import flows
from verify.flows.maturity import Maturity
from verify.runner import cases, run
from verify.schedule import Schedule
from verify.strands import Crash, State, Strand, here

if TYPE_CHECKING:
    from verify.lab import Lab

BIN = Path(sys.executable).parent


@pytest.mark.parametrize("flow", sorted(flows()))
def test_a_seed_replays_to_the_same_trace(lab: Lab, flow: str) -> None:
    """Also in another order, after other schedules, and with real sockets."""
    seeds = [3, 4, 5, 6]
    first = {seed: Schedule(lab, flow, seed).run() for seed in seeds}
    again = {seed: Schedule(lab, flow, seed).run() for seed in reversed(seeds)}
    for seed in seeds:
        assert first[seed].trace.lines == again[seed].trace.lines
        assert first[seed].violations == []
    assert len({outcome.trace.hash for outcome in first.values()}) == len(seeds)


def test_another_process_replays_it_too(postgres_url: str) -> None:
    """Whatever the order of its sets is."""
    command = [str(BIN / "overnight"), "verify", "--flow", "maturity", "--first-seed", "9"]
    hashes = set()
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "DATABASE_URL": postgres_url, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            [*command, "--seeds", "1"], env=environment, capture_output=True, text=True, check=True
        )
        hashes.add(next(line for line in done.stdout.splitlines() if line.startswith("trace ")))
    assert len(hashes) == 1


def test_a_process_that_is_killed_is_told_and_not_waited_for(postgres_url: str) -> None:
    """As by the kernel when memory runs out: the others end first, and the proof did not hold."""
    killed: list[int] = []

    def kill_one(*_: object) -> None:
        if not killed:
            victim = multiprocessing.active_children()[0]
            killed.append(victim.pid or 0)
            victim.kill()

    report = run(postgres_url, cases("queue", 1, 12), jobs=2, on_result=kill_one)
    assert report.broken == ["a process of the proof was killed by signal 9"]
    assert 1 <= report.schedules < 12
    assert not report.held


@pytest.mark.parametrize(
    ("tamper", "seen"),
    [
        (
            "UPDATE ledger SET delta_units = delta_units + 1 WHERE kind = 'transfer'",
            "the chain did what no leg asked for",
        ),
        (
            "INSERT INTO ledger SELECT block_id, position + 1000, height, kind, asset, address,"
            " delta_units, balance_units, ref, tx_hash FROM ledger WHERE kind = 'transfer'",
            "a leg was paid or burned twice",
        ),
        ("DELETE FROM ledger WHERE kind = 'burn'", "a transfer before its burn was final"),
        ("UPDATE payout_run SET total_units = total_units + 1", "the accounting line is false"),
        ("UPDATE wallet SET next_nonce = next_nonce + 1", "a nonce is missing"),
        ("DELETE FROM notification", "was not told exactly once"),
        ("DELETE FROM ledger WHERE kind = 'debit'", "payment tokens were made or lost"),
        (
            "UPDATE wallet SET halted_at = now(), halt_reason = 'because'",
            "signing is halted by mistake",
        ),
        (
            "UPDATE job_queue SET status = 'pending', finished_at = NULL"
            " WHERE job_type = 'MaturityRecord'",
            "a job is neither at an end nor scheduled",
        ),
        ("UPDATE payout_run SET approved_by = NULL", "a plan without approval was signed"),
    ],
)
def test_a_tampered_ledger_is_seen(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, tamper: str, seen: str
) -> None:
    check = Maturity.check

    def tampered(flow: Maturity) -> list[str]:
        assert lab.execute("SELECT 1 FROM payout_leg WHERE state = 'paid'")
        lab.execute(tamper)
        return check(flow)

    monkeypatch.setattr(Maturity, "check", tampered)
    found = Schedule(lab, "maturity", 3).run().violations
    assert any(seen in violation for violation in found), found


@pytest.mark.parametrize("hard", [True, False])
def test_a_crash_frees_the_rows_and_runs_nothing_more(lab: Lab, hard: bool) -> None:
    """It goes through every finally, and none of them reaches the database."""
    Schedule(lab, "queue", 1).run()
    lab.execute("DELETE FROM alert")
    strand, tidied = lab.strands[0], list[str]()

    def work() -> None:
        try:
            with transaction():
                execute("INSERT INTO alert (service, subject, message) VALUES ('a', 'b', 'c')")
                line = strand.connection
                assert line is not None
                strand.dead = True
                line.cut(hard=hard)
                raise Crash("now")
        finally:
            try:
                fetch("SELECT 1")
            except Crash:
                tidied.append("refused")

    switchboard.monitor, switchboard.points = lab.monitor, _Nothing()
    try:
        strand.start(object(), "work", work)
        assert isinstance(strand.error, Crash)
        assert tidied == ["refused"]
        line = strand.connection
        assert isinstance(line, SimulatedConnection)
        gone = lab.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", (line.pid,))
        assert bool(gone) is not hard
        lab.execute("SET lock_timeout = '1s'; LOCK alert; RESET lock_timeout")
        assert lab.execute("SELECT * FROM alert") == []
        strand.start(object(), "leave", reconnect)
    finally:
        switchboard.points = None


def test_a_strand_that_waits_for_a_lock_hands_its_baton_on(lab: Lab) -> None:
    Schedule(lab, "queue", 1).run()
    lab.execute("DELETE FROM pause; INSERT INTO pause VALUES ('a', 'b')")
    first, second = lab.strands[0], lab.strands[1]

    def hold() -> None:
        with transaction():
            execute("UPDATE pause SET reason = 'first' WHERE scope = 'a'")
            first.pause()

    def want() -> None:
        with transaction():
            execute("UPDATE pause SET reason = reason || ' second' WHERE scope = 'a'")

    switchboard.monitor, switchboard.points = lab.monitor, _Nothing()
    try:
        first.start(object(), "hold", hold)
        second.start(object(), "want", want)
        assert second.blocked
        assert second.still_blocked()
        first.resume()
        assert not second.still_blocked()
        second.resume()
        states = {first.state, second.state}
    finally:
        switchboard.points = None
    assert states == {State.IDLE}
    assert lab.execute("SELECT reason FROM pause") == [("first second",)]


def test_the_report_counts_what_was_injected(postgres_url: str) -> None:
    environment = {**os.environ, "DATABASE_URL": postgres_url}
    done = subprocess.run(
        [
            BIN / "overnight",
            "verify",
            "--seeds",
            "6",
            "--first-seed",
            "40",
            "--jobs",
            "2",
            "--json",
        ],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["violations"] == []
    assert report["schedules"] == sum(report["flows"].values()) >= 6
    crashes = sum(n for kind, n in report["faults"].items() if kind.startswith("crash "))
    assert report["crashes"] == crashes
    assert set(report["flows"]) == set(flows())


def test_a_relay_of_a_schedule_is_the_real_one(lab: Lab) -> None:
    schedule = Schedule(lab, "queue", 2)
    schedule.run()
    assert all(type(worker.memory.relay) is Relay for worker in schedule.crew.workers)
    assert here.strand is None
    with pytest.raises(psycopg2.Error):
        lab.execute("SELECT nothing")


class _Nothing:
    """Points at which nothing happens."""

    def statement(self, strand: Strand, connection: SimulatedConnection) -> None:
        """Nothing."""

    def before_commit(self, strand: Strand, connection: SimulatedConnection) -> None:
        """Nothing."""

    def after_commit(self, strand: Strand, connection: SimulatedConnection) -> None:
        """Nothing."""
