"""Ids of one call follow each other, and are UUIDs of version 4 like all others."""

import uuid

import pytest

import domain.ids
from domain.ids import new_id, new_ids


def test_ids_of_one_call_are_neighbours_and_all_different() -> None:
    ids = list(new_ids(1_000))
    assert len(set(ids)) == 1_000
    assert len({each[:24] for each in ids}) == 1
    assert {uuid.UUID(each).version for each in ids} == {4}
    assert [str(uuid.UUID(each)) for each in ids] == ids
    assert not set(ids) & set(new_ids(1_000))
    assert list(new_ids(0)) == []


def test_the_last_of_all_numbers_is_followed_by_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    head = "00000000-0000-4000-8000-"
    monkeypatch.setattr(domain.ids, "new_id", lambda: uuid.UUID(head + "f" * 12))
    assert list(new_ids(2)) == [head + "f" * 12, head + "0" * 12]


def test_a_seed_repeats_them() -> None:
    domain.ids.seed(7)
    first = [*new_ids(3), str(new_id())]
    domain.ids.seed(7)
    assert [*new_ids(3), str(new_id())] == first
    domain.ids.seed(None)
