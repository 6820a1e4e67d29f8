"""Loops end when they are told to; one that hangs keeps no process alive."""

import threading

from structlog.testing import capture_logs

from jobs.loops import Loop, LoopThreads


def test_a_loop_that_hangs_is_left_behind_and_named() -> None:
    inside, released = threading.Event(), threading.Event()

    def hang() -> None:
        inside.set()
        released.wait()

    threads = LoopThreads([Loop("settlement", hang)], end_within_s=0.01)
    threads.start()
    assert inside.wait(10)
    with capture_logs() as logs:
        threads.stop()
    released.set()
    assert [entry["loop"] for entry in logs] == ["settlement"]


def test_a_loop_finishes_its_turn() -> None:
    inside, turns = threading.Event(), []

    def turn() -> None:
        inside.set()
        turns.append(1)

    threads = LoopThreads([Loop("sweep", turn)])
    threads.start()
    assert inside.wait(10)
    with capture_logs() as logs:
        threads.stop()
    assert turns
    assert logs == []
