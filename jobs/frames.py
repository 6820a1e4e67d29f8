"""AMQP frames of the two hot paths: a delivery read at once, and many messages sent in one piece.

    socket → DeliveryConnection → consumer        job ids → message_frames → one write

pika reads a delivery as three frames, each copied, decoded and dispatched, and sends a message as
three writes: about 50 µs each way. Everything but these two shapes stays pika's own work, and what
is sent was encoded by Dramatiq and marshalled by pika, once, with only the id filled in here.
"""

from functools import lru_cache
from struct import Struct
from typing import Any

import pika
from dramatiq import Message
from pika import frame, spec

_DELIVER = Struct(">BHIIB")  # frame type, channel, size; method; length of the consumer's tag
_TAG = Struct(">QB")  # delivery tag; redelivered
_HEADER = Struct(">BHIHHQ")  # frame type, channel, size; class, weight, size of the body
_BODY = Struct(">BHI")  # frame type, channel, size
_AROUND = spec.FRAME_HEADER_SIZE + spec.FRAME_END_SIZE

#: What _deliver answers instead of a position.
_INCOMPLETE, _SOMETHING_ELSE = 0, -1

_NO_PROPERTIES = pika.BasicProperties()

#: Stands for a job's id in what is made once: as long as one, and like nothing else there.
_ID = "<id-of-a-job-in-thirty-six-letters-->"[:36]


class DeliveryConnection(pika.SelectConnection):
    """A connection that hands a delivery of one body frame to its consumer, without properties.

    Whatever else arrives goes pika's way, frame by frame.
    """

    def _on_data_available(self, data_in: bytes) -> None:
        pikas: Any = self  # pika keeps all of this to itself
        data, at = pikas._frame_buffer + data_in, 0
        while at < len(data):
            end = _deliver(pikas._channels, data, at)
            if end == _INCOMPLETE:
                break
            if end == _SOMETHING_ELSE:
                pikas._frame_buffer = data[at:]
                consumed, value = pikas._read_frame()
                if not value:
                    return
                pikas._trim_frame_buffer(consumed)
                pikas._process_frame(value)
                data, at = pikas._frame_buffer, 0
                continue
            pikas.frames_received += 3
            pikas.bytes_received += end - at  # a connection that receives is alive
            at = end
        pikas._frame_buffer = data[at:]


def _deliver(channels: dict[int, Any], data: bytes, at: int) -> int:
    """Give the delivery that begins at `at` to its consumer; returns where it ends."""
    if data[at] != spec.FRAME_METHOD:
        return _SOMETHING_ELSE
    size = len(data)
    if size < at + _DELIVER.size:
        return _INCOMPLETE
    _, number, length, method, tag_length = _DELIVER.unpack_from(data, at)
    if method != spec.Basic.Deliver.INDEX:
        return _SOMETHING_ELSE
    header_at = at + _AROUND + length
    if size < header_at + _HEADER.size:
        return _INCOMPLETE
    kind, of_header, length, _, _, body_size = _HEADER.unpack_from(data, header_at)
    if kind != spec.FRAME_HEADER or of_header != number or not body_size:
        return _SOMETHING_ELSE  # an empty body has no frame: nothing more would come
    body_at = header_at + _AROUND + length
    if size < body_at + _BODY.size:
        return _INCOMPLETE
    kind, of_body, length = _BODY.unpack_from(data, body_at)
    if kind != spec.FRAME_BODY or of_body != number or length != body_size:
        return _SOMETHING_ELSE
    end = body_at + _AROUND + length
    if size < end:
        return _INCOMPLETE
    if not data[header_at - 1] == data[body_at - 1] == data[end - 1] == spec.FRAME_END:
        return _SOMETHING_ELSE
    tag_at = at + _DELIVER.size
    consumer_tag = data[tag_at : tag_at + tag_length].decode()
    channel = channels.get(number)
    if channel is None or not channel.is_open or consumer_tag in channel._cancelled:
        return _SOMETHING_ELSE
    consume = channel._consumers.get(consumer_tag)
    if consume is None:
        return _SOMETHING_ELSE
    tag, redelivered = _TAG.unpack_from(data, tag_at + tag_length)
    deliver = spec.Basic.Deliver(consumer_tag, tag, bool(redelivered & 1))
    consume(channel, deliver, _NO_PROPERTIES, data[body_at + _BODY.size : end - 1])
    return int(end)


def message_frames(channel: int, queue: str, actor: str, job_id: str, published: int) -> bytes:
    """A persistent, mandatory message for a queue, as it goes over the wire."""
    head, middle, tail = _around_ids(channel, queue, actor, published)
    wire_id = job_id.encode()
    return b"".join((head, wire_id, middle, wire_id, tail))


def message_body(queue: str, actor: str, job_id: str, published: int) -> bytes:
    """The message itself: which job, and how often it was published. The row has the rest."""
    head, tail = around_id(queue, actor, published)
    return head + job_id.encode() + tail


@lru_cache(maxsize=1_000)
def around_id(queue: str, actor: str, published: int) -> tuple[bytes, bytes]:
    """What stands before and after the job's id in a message's body."""
    message: Message[Any] = Message(
        queue_name=queue,
        actor_name=actor,
        args=(),
        kwargs={},
        options={"published": published},
        message_id=_ID,
        message_timestamp=0,
    )
    head, tail = message.encode().split(_ID.encode())
    return head, tail


@lru_cache(maxsize=1_000)
def _around_ids(channel: int, queue: str, actor: str, published: int) -> tuple[bytes, bytes, bytes]:
    body = message_body(queue, actor, _ID, published)
    publish = spec.Basic.Publish(exchange="", routing_key=queue, mandatory=True)
    properties = pika.BasicProperties(delivery_mode=2, message_id=_ID)
    frames = (
        frame.Method(channel, publish),
        frame.Header(channel, len(body), properties),
        frame.Body(channel, body),
    )
    head, middle, tail = b"".join(each.marshal() for each in frames).split(_ID.encode())
    return head, middle, tail
