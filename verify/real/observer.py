"""What the lane sees in the database: every change of a job's status, noted by a trigger.

    trigger on job_queue → observer.transition (committed with the change itself) → measurements

The tables are in a schema of their own, beside the program's. Reads connect past the proxies and
wait for a database that is away, unless told otherwise.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from threading import Event
from typing import Any

import psycopg2
from pika.adapters.utils.connection_workflow import AMQPConnectorException
from pika.exceptions import AMQPError

#: How a blocking pika connection says that the broker can't be had.
BROKER_AWAY = (AMQPError, AMQPConnectorException, OSError)

#: How long a read waits for a database that is stopped or full.
AWAY_S = 60.0
RETRY_S = 0.1

SCHEMA = """
CREATE SCHEMA observer;
CREATE TABLE observer.transition (
    job_id uuid NOT NULL, at timestamptz NOT NULL, old text NOT NULL, new text NOT NULL,
    worker uuid, run_at timestamptz, deaths integer NOT NULL, queue text NOT NULL
);
CREATE INDEX ON observer.transition (job_id, at);
CREATE INDEX ON observer.transition (queue, at);
CREATE TABLE observer.backlog (kill integer NOT NULL, job_id uuid NOT NULL);
CREATE FUNCTION observer.note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO observer.transition VALUES
        (NEW.id, clock_timestamp(), OLD.status, NEW.status, NEW.processed_by, NEW.run_at,
         NEW.deaths, NEW.queue);
    RETURN NULL;
END $$;
CREATE TRIGGER observer AFTER UPDATE OF status ON job_queue FOR EACH ROW
    WHEN (OLD.status <> NEW.status) EXECUTE FUNCTION observer.note();
"""

#: Jobs that wait for nothing but a worker.
_DUE = """
INSERT INTO observer.backlog
SELECT %s, job_id FROM job_outbox WHERE due_at <= overnight_now() OR published_at IS NOT NULL
RETURNING job_id
"""

#: When the last job of a backlog had begun after the broker's return: of all, and of those that do
#: not stand in a queue that is left out.
_DRAINED = """
SELECT extract(epoch FROM max(begun))::float8,
       extract(epoch FROM max(begun) FILTER (WHERE queue <> %(without)s))::float8,
       count(*) FILTER (WHERE begun IS NULL)
FROM (
    SELECT j.queue, (SELECT min(t.at) FROM observer.transition t
            WHERE t.job_id = b.job_id AND t.at > to_timestamp(%(since)s)
              AND t.new IN ('processing', 'completed', 'failed', 'cancelled')) AS begun
    FROM observer.backlog b JOIN job_queue j ON j.id = b.job_id WHERE b.kill = %(kill)s) AS job
"""


class Observer:
    """Reads one database, wherever it is now."""

    def __init__(self, url: Callable[[], str], ended: Event | None = None) -> None:
        self._url = url
        self._ended = ended or Event()

    def install(self) -> None:
        """Create the observer's schema and trigger; the program's own schema must be there."""
        with closing(psycopg2.connect(self._url())) as connection, connection.cursor() as cursor:
            cursor.execute(SCHEMA)
            connection.commit()

    def rows(
        self, sql: str, params: Sequence[Any] | dict[str, Any] | None = None, *, wait: bool = True
    ) -> list[tuple[Any, ...]]:
        """Run one statement; raises psycopg2.OperationalError when the database stays away."""
        give_up_at = time.monotonic() + (AWAY_S if wait else 0)
        while True:
            try:
                with closing(psycopg2.connect(self._url(), connect_timeout=5)) as connection:
                    connection.autocommit = True
                    with connection.cursor() as cursor:
                        cursor.execute(sql, params)
                        return cursor.fetchall() if cursor.description else []
            except (psycopg2.OperationalError, psycopg2.InterfaceError):
                if time.monotonic() > give_up_at or self._ended.wait(RETRY_S):
                    raise

    def until(self, sql: str, timeout_s: float, params: Sequence[Any] | None = None) -> bool:
        """Wait until a query has a row; False after the timeout."""
        give_up_at = time.monotonic() + timeout_s
        while not self.rows(sql, params):
            if time.monotonic() > give_up_at or self._ended.wait(RETRY_S):
                return False
        return True

    def note_backlog(self, kill: int) -> int:
        """Remember what is due at the broker's return; returns how many jobs."""
        return len(self.rows(_DUE, (kill,)))

    def drained_after(self, kill: int, since: float, without: str) -> tuple[float, float, int]:
        """Seconds until a backlog had begun, with and without one queue; and what never did."""
        params = {"kill": kill, "since": since, "without": without}
        [(of_all, of_others, never)] = self.rows(_DRAINED, params)
        return (of_all or since) - since, (of_others or since) - since, int(never)
