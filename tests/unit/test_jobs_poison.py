"""A reader knows a relay's messages at sight, and reads them as it would have the long way."""

from typing import Any
from uuid import UUID

import pytest
from dramatiq import Actor, Message
from dramatiq.brokers.stub import StubBroker
from hypothesis import given
from hypothesis import strategies as st

from domain.job_types import JobType
from jobs.actor import JobActor
from jobs.frames import message_body
from jobs.poison import Poison, Reader, read

QUEUE = "p_notifications"
NAMES = [JobType.NOTIFICATION_INDIVIDUAL.value, JobType.NOTIFICATION_FANOUT.value]
ACTORS: dict[str, Actor[..., Any]] = {
    name: JobActor(
        lambda: None, broker=StubBroker(), actor_name=name, queue_name=QUEUE, priority=3, options={}
    )
    for name in NAMES
}


@given(
    given=st.lists(
        st.tuples(
            st.sampled_from(NAMES), st.integers(0, 12), st.uuids(), st.sampled_from([QUEUE, "q"])
        ),
        max_size=9,
    )
)
def test_it_is_what_the_long_way_reads(given: list[tuple[str, int, UUID, str]]) -> None:
    reader = Reader(QUEUE, ACTORS)
    for name, published, job_id, queue in given:
        body = message_body(queue, name, str(job_id), published)
        got, expected = reader.read(body), read(body, QUEUE, ACTORS)
        assert got == expected
        assert (type(got.args), got.kwargs) == (tuple, {})


def test_messages_share_nothing() -> None:
    reader = Reader(QUEUE, ACTORS)
    bodies = [message_body(QUEUE, NAMES[0], str(UUID(int=number)), 1) for number in range(3)]
    first, second, third = map(reader.read, bodies)
    second.options["published"] = 7
    assert first.options == third.options == {"published": 1}


@pytest.mark.parametrize(
    "job_id",
    ["x" * 36, "{" + str(UUID(int=1))[1:], '00000000-0000-0000-0000-0000000000"', "é" * 18],
)
def test_what_is_no_id_is_poison_though_all_else_is_known(job_id: str) -> None:
    reader = Reader(QUEUE, ACTORS)
    good = message_body(QUEUE, NAMES[0], str(UUID(int=1)), 1)
    reader.read(good)
    bad = good.replace(str(UUID(int=1)).encode(), job_id.encode()[:36].ljust(36))
    assert len(bad) == len(good)
    with pytest.raises(Poison):
        reader.read(bad)


def test_other_spellings_of_an_id_are_read_the_long_way() -> None:
    reader = Reader(QUEUE, ACTORS)
    body = message_body(QUEUE, NAMES[0], str(UUID(int=0xAB)), 1)
    reader.read(body)
    loud: Message[Any] = reader.read(body.replace(b"0000ab", b"0000AB"))
    assert UUID(loud.message_id) == UUID(int=0xAB)
