"""Who settles a wallet is alone, and can't keep the others out by freezing."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from models.database import CONNECTION_ERRORS
from servers.processes import wait_until
from usecases.payouts import settlement

WALLET = 4711


def _try() -> bool:
    with settlement._alone(WALLET) as alone:
        return alone


def test_a_second_settler_is_turned_away_until_the_first_is_done(
    spawn: Callable[[Callable[[], Any]], "Future[Any]"],
) -> None:
    with settlement._alone(WALLET) as alone:
        assert alone
        assert spawn(_try).result() is False
    assert spawn(_try).result() is True


def test_a_frozen_settler_loses_its_lock(
    spawn: Callable[[Callable[[], Any]], "Future[Any]"], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settlement, "_SILENCE_LIMIT", "200ms")
    has_lock, thaw = threading.Event(), threading.Event()

    def freeze() -> None:
        with settlement._alone(WALLET) as alone:
            assert alone
            has_lock.set()
            thaw.wait()  # as SIGSTOP would: the connection stays open, and says nothing

    frozen = spawn(freeze)
    has_lock.wait()
    try:
        wait_until(lambda: spawn(_try).result() is True, 20, "the frozen settler's lock")
    finally:
        thaw.set()
    with pytest.raises(CONNECTION_ERRORS):
        frozen.result()
