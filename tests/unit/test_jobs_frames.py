"""Frames by the shortest way say what pika's own would have said."""

from typing import Any
from uuid import UUID

import pika.exceptions
import pytest
from dramatiq import Message
from hypothesis import given
from hypothesis import strategies as st
from pika import frame, spec

from jobs.frames import DeliveryConnection, message_body, message_frames

JOB = str(UUID(int=7))


def delivery(tag: int, body: bytes, *, channel: int = 1, consumer: str = "me") -> bytes:
    """What a broker sends: method, header and as many body frames as the body needs."""
    method = spec.Basic.Deliver(consumer, tag, tag % 2 == 0, "", "queue")
    properties = pika.BasicProperties(delivery_mode=2, message_id=JOB)
    frames = [frame.Method(channel, method), frame.Header(channel, len(body), properties)]
    frames += [frame.Body(channel, body[at : at + 100]) for at in range(0, len(body), 100)]
    return b"".join(each.marshal() for each in frames)


class Channel:
    """As much of a pika channel as a delivery meets."""

    def __init__(self) -> None:
        self.is_open = True
        self._cancelled: set[str] = set()
        self.got: list[tuple[int, bool, bytes]] = []
        self._consumers: dict[str, Any] = {"me": self.take}

    def take(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        assert channel is self
        assert method.consumer_tag == "me"
        self.got.append((method.delivery_tag, method.redelivered, body))


def connection(channel: Channel) -> tuple[Any, list[Any]]:
    """A connection that was never opened, and the frames it leaves to pika."""
    made: Any = DeliveryConnection.__new__(DeliveryConnection)
    made._frame_buffer, made._channels = b"", {1: channel}
    made.frames_received = made.bytes_received = 0
    lefts: list[Any] = []
    made._process_frame = lefts.append
    return made, lefts


SMALL = b"x" * 90
HEARTBEAT = frame.Heartbeat().marshal()
ACK = frame.Method(1, spec.Basic.Ack(9)).marshal()


@given(cuts=st.lists(st.integers(1, 60), max_size=60), heartbeats=st.booleans())
def test_deliveries_arrive_whole_however_they_were_cut(cuts: list[int], heartbeats: bool) -> None:
    channel = Channel()
    reading, lefts = connection(channel)
    wire = b"".join(delivery(tag, SMALL) + HEARTBEAT * heartbeats for tag in range(1, 6))
    rest = wire
    for cut in cuts:
        reading._on_data_available(rest[:cut])
        rest = rest[cut:]
    reading._on_data_available(rest)
    assert channel.got == [(tag, tag % 2 == 0, SMALL) for tag in range(1, 6)]
    assert [type(each) for each in lefts] == [frame.Heartbeat] * 5 * heartbeats
    assert reading._frame_buffer == b""
    assert reading.bytes_received == len(wire), "pika would take a busy connection for a dead one"


@pytest.mark.parametrize(
    "wire",
    [
        ACK,
        delivery(1, b""),
        delivery(1, b"x" * 250),
        delivery(1, SMALL, channel=2),
        delivery(1, SMALL, consumer="cancelled"),
        delivery(1, SMALL, consumer="unknown"),
        HEARTBEAT,
    ],
    ids=["method", "empty", "many frames", "channel", "cancelled", "unknown", "heartbeat"],
)
def test_everything_else_is_left_to_pika(wire: bytes) -> None:
    channel = Channel()
    channel._cancelled.add("cancelled")
    reading, lefts = connection(channel)
    reading._on_data_available(wire + delivery(2, SMALL))
    assert b"".join(each.marshal() for each in lefts) == wire
    assert channel.got == [(2, True, SMALL)]


def test_a_closing_channels_deliveries_are_left_to_pika() -> None:
    channel = Channel()
    channel.is_open = False
    reading, lefts = connection(channel)
    reading._on_data_available(delivery(1, SMALL))
    assert len(lefts) == 3
    assert channel.got == []


def test_a_broken_frame_is_pikas_to_refuse() -> None:
    reading, _ = connection(Channel())
    wire = bytearray(delivery(1, SMALL))
    wire[-1] = 0
    with pytest.raises(pika.exceptions.InvalidFrameError):
        reading._on_data_available(bytes(wire))


@pytest.mark.parametrize("published", [1, 2, 12])
def test_what_is_sent_is_what_pika_and_dramatiq_would_send(published: int) -> None:
    message: Message[Any] = Message(
        queue_name="q",
        actor_name="Actor",
        args=(),
        kwargs={},
        options={"published": published},
        message_id=JOB,
        message_timestamp=0,
    )
    assert message_body("q", "Actor", JOB, published) == message.encode()
    properties = pika.BasicProperties(delivery_mode=2, message_id=JOB)
    frames = (
        frame.Method(3, spec.Basic.Publish(exchange="", routing_key="q", mandatory=True)),
        frame.Header(3, len(message.encode()), properties),
        frame.Body(3, message.encode()),
    )
    wire = b"".join(each.marshal() for each in frames)
    assert message_frames(3, "q", "Actor", JOB, published) == wire
