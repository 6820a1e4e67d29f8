"""Importing a bond: whole or not at all, once, replaced until it is planned, refused after."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import Future
from datetime import date
from functools import partial
from typing import Any

import pytest

from cli.demo_bond import bond_json
from domain.bond_file import BadBondFile
from domain.errors import NotFound, Rejected
from domain.ids import new_id
from models.database import execute, fetch, transaction
from servers.processes import wait_until
from usecases.bonds import has_runs, import_bond, list_bonds, list_holders, show_bond

pytestmark = pytest.mark.integration

MATURED = date(2026, 1, 31)
FILE = bond_json(1, holders=20, seed=1, matured=MATURED)
BOND = "DEMO-0001"

Spawn = Callable[[Callable[[], Any]], "Future[Any]"]


def changed(**first_investor: object) -> str:
    content = json.loads(FILE)
    content["investors"][0] |= first_investor
    return json.dumps(content)


def snapshot() -> list[list[tuple[Any, ...]]]:
    return [
        fetch(f"SELECT t.* FROM {table} t ORDER BY t::text")
        for table in ("bond", "bond_investor", "bond_holding")
    ]


def trigger(state: str = "planning") -> str:
    execute(
        "INSERT INTO wallet (chain_id, address, environment_id, next_nonce)"
        " VALUES ('c', 'a', 'e', 0) ON CONFLICT DO NOTHING"
    )
    run_id = str(new_id())
    execute(
        "INSERT INTO payout_run (id, kind, subject, bond_id, wallet_id, state, config_version,"
        " record_date, token, token_decimals, triggered_by)"
        " SELECT %s, 'maturity', %s, %s, min(id), %s, 'v', '2026-01-31', 'PLT', 6, 'test'"
        " FROM wallet",
        (run_id, run_id, BOND, state),
    )
    return run_id


def test_a_file_is_stored_as_it_says(database: str) -> None:
    imported = import_bond(FILE)
    assert imported.outcome == "imported"
    [bond] = list_bonds()
    assert (bond.id, bond.holders, bond.tokens) == (BOND, 20, imported.file.tokens)
    assert bond.total == imported.file.tokens * 100
    assert str(bond.total).endswith(".000000")
    expected = {who.address: (who.name, who.whitelisted, who.holdings)
                for who in imported.file.investors}  # fmt: skip
    assert {h.address: (h.name, h.whitelisted, h.holdings) for h in list_holders(BOND)} == expected
    assert len(list_holders(BOND, limit=3)) == 3
    detail = show_bond(BOND)
    assert detail.matured
    assert detail.runs == ()
    assert not has_runs(BOND)
    with pytest.raises(NotFound, match="bonds list"):
        show_bond("nope")


def test_names_survive_as_they_are(database: str) -> None:
    name = 'Zoë \\N \\. O\'Neil, "Q" %s — 李'
    import_bond(changed(name=name))
    assert name in {holder.name for holder in list_holders(BOND)}


def test_the_same_content_twice_changes_nothing(database: str) -> None:
    import_bond(FILE)
    before = snapshot()
    assert (
        import_bond(json.dumps(json.loads(FILE), indent=4, sort_keys=True)).outcome == "unchanged"
    )
    assert snapshot() == before


def test_a_bad_file_imports_nothing(database: str) -> None:
    with pytest.raises(BadBondFile):
        import_bond(changed(email="nobody"))
    assert snapshot() == [[], [], []]
    import_bond(FILE)
    before = snapshot()
    with pytest.raises(BadBondFile):
        import_bond(changed(holdings=[{"token_id": 1, "balance": "-1"}]))
    assert snapshot() == before


def test_a_changed_file_replaces_the_register_while_nothing_is_planned(database: str) -> None:
    import_bond(FILE)
    content = json.loads(FILE)
    del content["investors"][5:]
    assert import_bond(json.dumps(content)).outcome == "replaced"
    [bond] = list_bonds()
    assert bond.holders == 5
    assert len(list_holders(BOND)) == 5


@pytest.mark.parametrize("state", ["planning", "waiting", "paying"])
def test_a_changed_file_is_refused_once_the_bond_was_triggered(database: str, state: str) -> None:
    import_bond(FILE)
    run_id = trigger(state)
    before = snapshot()
    with pytest.raises(Rejected, match=run_id):
        import_bond(changed(name="Eve"))
    assert snapshot() == before
    assert import_bond(FILE).outcome == "unchanged"


def test_a_run_that_failed_before_its_plan_binds_nobody(database: str) -> None:
    import_bond(FILE)
    trigger("failed")
    assert import_bond(changed(name="Eve")).outcome == "replaced"


def test_two_imports_at_once_leave_one_whole_file(database: str, spawn: Spawn) -> None:
    files = [changed(name=f"Name {number}") for number in range(4)]
    outcomes = [f.result(30).outcome for f in [spawn(partial(import_bond, f)) for f in files]]
    assert sorted(outcomes) == ["imported", "replaced", "replaced", "replaced"]
    assert len(list_holders(BOND)) == 20
    assert len({digest for (digest,) in fetch("SELECT file_digest FROM bond")}) == 1


def test_an_import_waits_for_a_trigger_under_way_and_then_sees_it(
    database: str, spawn: Spawn
) -> None:
    import_bond(FILE)
    inserted, go_on = threading.Event(), threading.Event()

    def slow_trigger() -> None:
        with transaction():
            trigger()
            inserted.set()
            go_on.wait(10)

    triggering = spawn(slow_trigger)
    assert inserted.wait(10)
    importing = spawn(lambda: import_bond(changed(name="Eve")))
    waits = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
    waits += " AND wait_event_type = 'Lock'"
    wait_until(lambda: bool(fetch(waits)), 10, "the import to wait for the trigger")
    assert not importing.done()
    go_on.set()
    triggering.result(10)
    with pytest.raises(Rejected):
        importing.result(10)


def test_ten_thousand_holders_are_imported_whole(database: str) -> None:
    import_bond(bond_json(2, holders=10_000, seed=1, matured=MATURED))
    assert fetch("SELECT count(*) FROM bond_investor") == [(10_000,)]
