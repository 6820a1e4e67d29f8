"""Poison: messages that can never be a job. Kept as stray messages, acked, without effect.

    bytes from the broker → read → Message, or Poison(reason) → stray_message

Stock Dramatiq moves them to a queue that forgets them after a week, or stops consuming.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

from dramatiq import Actor, Message

from jobs.actor import JobActor
from jobs.frames import around_id
from jobs.runner import keep_stray, put_back
from models.database import fetch

#: The message options of our own publishers: the relay's and periodiq's.
_OPTIONS = ("published", "scheduled_at")

#: How every pickle since Python 3.0 begins. None is ever loaded: loading one runs its code.
_PICKLE = b"\x80"


#: What Dramatiq takes for granted, and would stop at.
_SHAPE = (
    ("actor_name", str, "a text"),
    ("args", list, "a list"),
    ("kwargs", dict, "an object"),
)

#: As our own relays write it; other spellings of a UUID are read the long way.
_JOB_ID = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_NOTHING: tuple[bytes, bytes, None] = (b"", b"", None)


class Poison(Exception):
    """The bytes are no message that any actor here can take; `message` is set if they were one."""

    def __init__(self, reason: str, message: "Message[Any] | None" = None) -> None:
        super().__init__(reason)
        self.message = message


def read(body: bytes, queue: str, actors: "Mapping[str, Actor[..., Any]]") -> "Message[Any]":
    """The message in `body`, made harmless. Raises Poison.

    Dramatiq's worker thread dies of a message whose queue_name is not the queue that it came from,
    and an `eta` waits in memory: only the options of our own publishers are kept.
    """
    message = _decode(body)
    actor = actors.get(message.actor_name)
    if actor is None:
        raise Poison(f"unknown actor {message.actor_name!r}", message)
    if isinstance(actor, JobActor) and job_id_of(message) is None:
        raise Poison(f"its id is no job's: {message.message_id!r}")
    options = message.options if isinstance(message.options, dict) else {}
    kept = {key: options[key] for key in _OPTIONS if key in options}
    if kept == options and message.queue_name == queue:
        return message  # our own relay's
    return replace(message, queue_name=queue, options=kept)


class Reader:
    """Reads the messages of one queue, each as `read` would.

    A relay's messages differ only in their job's id: one that is otherwise the same as one before
    is known at sight, which costs a fifth of reading it.
    """

    def __init__(self, queue: str, actors: "Mapping[str, Actor[..., Any]]") -> None:
        self._queue, self._actors = queue, actors
        self._known: dict[int, tuple[bytes, bytes, Message[Any]]] = {}  # by length

    def read(self, body: bytes) -> "Message[Any]":
        """The message in `body`, made harmless. Raises Poison."""
        head, tail, like = self._known.get(len(body), _NOTHING)
        if like is not None and body.startswith(head) and body.endswith(tail):
            job_id = body[len(head) : len(body) - len(tail)]
            if _JOB_ID.fullmatch(job_id):
                return Message(
                    like.queue_name,
                    like.actor_name,
                    (),
                    {},
                    like.options.copy(),
                    job_id.decode(),
                    like.message_timestamp,
                )
        message = read(body, self._queue, self._actors)
        if isinstance(self._actors[message.actor_name], JobActor):
            self._learn(body, message)
        return message

    def _learn(self, body: bytes, message: "Message[Any]") -> None:
        published = message.options.get("published")
        if type(published) is not int:
            return
        head, tail = around_id(self._queue, message.actor_name, published)
        if body == head + message.message_id.encode() + tail:
            self._known[len(body)] = (head, tail, message)


def keep(poison: Poison, body: bytes, queue: str) -> None:
    """Record it; but an unfinished job of a newer version's type goes back to the outbox."""
    message = poison.message
    job_id = job_id_of(message) if message is not None else None
    if message is not None and job_id is not None:
        rows = fetch("SELECT job_type FROM job_queue WHERE id = %s", (str(job_id),))
        if rows == [(message.actor_name,)]:
            put_back(job_id)
            return
    keep_stray(queue, str(poison), body.decode("utf-8", "backslashreplace"))


def job_id_of(message: "Message[Any]") -> UUID | None:
    """The message's id, if it is a UUID as all job ids are."""
    try:
        return UUID(message.message_id)
    except (ValueError, TypeError, AttributeError):
        return None


def _decode(body: bytes) -> "Message[Any]":
    try:
        fields = json.loads(body.decode())
    except UnicodeDecodeError:
        what = "a pickle, never loaded" if body.startswith(_PICKLE) else "not UTF-8"
        raise Poison(f"undecodable: {what}") from None
    except (ValueError, RecursionError) as error:
        raise Poison(f"undecodable: not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise Poison("undecodable: not an object")
    for name, kind, what in _SHAPE:
        if name in fields and not isinstance(fields[name], kind):
            raise Poison(f"no Dramatiq message: {name} must be {what}")
    try:
        return Message(**fields)
    except TypeError as error:
        raise Poison(f"no Dramatiq message: {error}") from None
