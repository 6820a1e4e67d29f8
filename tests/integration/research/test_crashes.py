"""The worker dies in any call, again and again, freezes and comes back: the rows are the same."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from domain.research import ResearchJob
from jobs.runner import run_due
from models.database import execute, fetch, reconnect
from usecases.research.pages import ITEM_DEATHS_MAX

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.research.conftest import World

pytestmark = pytest.mark.integration

SYMBOLS = ("AAPL", "IBM", "MSFT", "ORCL", "SAP")
PRICES = ResearchJob.PRICE_REFRESH


@pytest.fixture
def undisturbed(world: World) -> Callable[[], None]:
    """Compare with what a night without any disturbance writes."""
    for symbol in SYMBOLS:
        world.company(symbol)

    def compare() -> None:
        found = world.tables()
        runs = fetch("SELECT job, outcome, processed, updated, skipped, errors FROM job_run"
                     " ORDER BY position")  # fmt: skip
        execute("TRUNCATE daily_price, corporate_action, fx_rate, statement, document,"
                " derived_metric, research_state, research_check, job_run, job_run_item, job_queue,"
                " job_outbox")  # fmt: skip
        execute(
            "UPDATE company SET market_cap = NULL, market_cap_on = NULL,"
            " next_earnings_date = NULL, last_report_date = NULL, shares_as_of = NULL"
        )
        world.script.wrong.clear()
        world.night()
        assert found == world.tables()
        assert runs == fetch("SELECT job, outcome, processed, updated, skipped, errors FROM job_run"
                             " ORDER BY position")  # fmt: skip

    return compare


CALLS = [
    ("calendar", None), ("prices", "IBM"), ("fx", None), ("documents", "MSFT"), ("open", "SAP-1"),
    ("overview", "AAPL"), ("cash_flow", "ORCL"),
]  # fmt: skip


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call[0])
def test_a_crash_in_a_call(
    world: World, undisturbed: Callable[[], None], call: tuple[str, str | None]
) -> None:
    world.crash_at(*call)
    world.start()
    world.crash()
    world.work()
    assert world.script.wrong[call][0] is not None
    undisturbed()


def test_killed_five_times_and_resumed(world: World, undisturbed: Callable[[], None]) -> None:
    for number in range(20):
        world.company(f"C{number}")
    world.start()
    for endpoint in ("prices", "prices", "prices", "overview", "overview"):
        job = "price_refresh" if endpoint == "prices" else "financials_refresh"
        waiting = fetch(  # each time others are done, and others in hand
            "SELECT symbol FROM company c WHERE NOT EXISTS (SELECT 1 FROM job_run_item"
            " JOIN job_run r ON r.id = run_id WHERE item_key = c.id::text AND job = %s"
            " AND status <> 'waiting') ORDER BY id DESC LIMIT 1",
            (job,),
        )
        world.crash_at(endpoint, waiting[0][0])
        world.crash()
    assert fetch("SELECT sum(deaths) FROM job_queue") == [(5,)]
    world.work()
    undisturbed()


def test_killed_by_one_company_again_and_again(world: World) -> None:
    """The others are done, and the one that kills is found and named."""
    for symbol in SYMBOLS:
        world.company(symbol)
    world.start(PRICES)
    deaths = 0
    while True:
        world.crash_at("prices", "IBM")
        try:
            world.crash()
        except BaseException:  # noqa: BLE001 - pytest's own Failed: nothing died any more
            break
        deaths += 1
        assert deaths < 10
    world.work()
    assert deaths <= 3 + ITEM_DEATHS_MAX
    assert world.items(PRICES) == {
        **dict.fromkeys(SYMBOLS, ("updated", None)),
        "IBM": ("error", "its worker died each time it was tried"),
    }
    assert world.run(PRICES)["outcome"] == "partial"


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call[0])
def test_a_frozen_worker_wakes_up_beside_its_rescuer(
    world: World, undisturbed: Callable[[], None], call: tuple[str, str | None]
) -> None:
    """The rescue took the page and did the work; the old worker goes on where it stopped."""

    def meanwhile() -> None:
        def other() -> None:
            world.rescue()
            run_due()
            reconnect()

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()

    world.script.before[call] = meanwhile
    world.start()
    world.work()
    undisturbed()


def test_three_workers_at_once(world: World, undisturbed: Callable[[], None]) -> None:
    world.start()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            while fetch("SELECT 1 FROM job_run WHERE finished_at IS NULL"):
                run_due()
        except BaseException as error:  # noqa: BLE001 - shown by the test
            errors.append(error)
        finally:
            reconnect()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert world.script.count("prices") == len(SYMBOLS)  # nobody asked twice
    undisturbed()
