"""The inbox: jobs that other programs ask for, over RabbitMQ, without our code.

    message {version, source, id, job_type, payload} → inbox row + job + outbox, one commit → ack

The same (source, id) twice is one job. What can't be understood is kept as a stray message.
"""

import json
from typing import Any
from uuid import UUID

import structlog
from dramatiq import Actor, Broker
from dramatiq.middleware import CurrentMessage
from dramatiq.middleware.threading import Interrupt

from domain.errors import InvalidInput
from domain.job_types import JobType
from jobs.enqueue import Enqueued, enqueue
from jobs.runner import keep_stray, stopping, wait_for_database
from models.database import CONNECTION_ERRORS, execute, fetch, transaction

log = structlog.get_logger()

#: The logical queue, and the actor name that a program puts into its message.
INBOX_QUEUE = "inbox"
INBOX_ACTOR = "inbox"
INBOX_VERSION = 1

#: Longer texts are no ids; PostgreSQL's indexes end at about 2,700 bytes.
MAX_TEXT = 200

_TAKE = """
INSERT INTO inbox_message (source, message_id, job_id) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING
"""


def accept(envelope: dict[str, Any]) -> Enqueued | None:
    """Make the job that `envelope` asks for, in one transaction; None if it was taken before.

    Raises:
        InvalidInput: a field is missing or wrong; the message names it.
    """
    source, message_id = _text(envelope, "source"), _text(envelope, "id")
    if envelope.get("version") != INBOX_VERSION:
        raise InvalidInput(f"version: expected {INBOX_VERSION}, got {envelope.get('version')!r}")
    name = _text(envelope, "job_type")
    if name not in {job_type.value for job_type in JobType if job_type.spec.from_inbox}:
        raise InvalidInput(f"job_type: {name!r} can't be asked for through the inbox")
    payload = envelope.get("payload")
    if not isinstance(payload, dict):
        raise InvalidInput("payload: expected an object of ids and dates")
    message = JobType(name).message_of({key: _text(payload, key, "payload.") for key in payload})
    with transaction():
        if not execute(_TAKE, (source, message_id, message.message_id)):
            return None
        return enqueue(message, correlation=f"inbox:{source}")


class InboxActor(Actor[..., None]):
    """Takes inbox messages. The ack comes after the commit, or not at all."""

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        message: Any = CurrentMessage.get_current_message()
        envelope = args[0] if args and isinstance(args[0], dict) else kwargs
        lost = ""
        while True:
            try:
                if lost:
                    wait_for_database(lost)
                    lost = ""
                return _accept_or_keep(envelope)
            except Interrupt:
                log.warning("time limit while taking an inbox message")  # it ends the wait only
            except CONNECTION_ERRORS as error:
                if stopping.is_set() and message is not None:
                    message.owner = None  # not acked: the broker delivers it to another worker
                    return None
                lost = str(error) or "lost"


def declare_inbox(broker: Broker, queue_prefix: str = "") -> None:
    """Declare the inbox actor on `broker`."""
    InboxActor(
        lambda **envelope: None,  # never called: InboxActor does the work itself
        broker=broker,
        actor_name=INBOX_ACTOR,
        queue_name=queue_prefix + INBOX_QUEUE,
        priority=0,
        options={},
    )


def job_of(source: str, message_id: str) -> UUID | None:
    """The job that an inbox message became."""
    sql = "SELECT job_id FROM inbox_message WHERE source = %s AND message_id = %s"
    rows = fetch(sql, (source, message_id))
    return UUID(str(rows[0][0])) if rows else None


def _accept_or_keep(envelope: dict[str, Any]) -> None:
    try:
        accept(envelope)
    except InvalidInput as error:
        keep_stray(INBOX_QUEUE, str(error), json.dumps(envelope, default=str))
    except CONNECTION_ERRORS:
        raise
    except Exception as error:  # raised on, it would be acked and forgotten
        log.exception("an inbox message could not be taken")
        reason = f"{type(error).__name__}: {error}"
        keep_stray(INBOX_QUEUE, reason, json.dumps(envelope, default=str))


def _text(fields: dict[str, Any], name: str, within: str = "") -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value.strip():
        raise InvalidInput(f"{within}{name}: expected a text that is not empty")
    if len(value) > MAX_TEXT or not value.isprintable():
        raise InvalidInput(f"{within}{name}: expected at most {MAX_TEXT} printable characters")
    return value
