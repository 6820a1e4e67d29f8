"""A frozen worker gives its locks back in time, also the one that a thread was waiting for."""

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg2
import pytest

from models.database import connect_to, execute, fetch, reconnect

pytestmark = pytest.mark.crash

THREADS = 2  # the second inherits the lock from the first
FREE_S = 9.0  # the promise is claimable within 10 s, and the rescue looks every second
WAIT_S = 30.0

WORKER = """
import sys, threading
from models.database import connect_to, execute, transaction

def work(number):
    with transaction():
        execute("SELECT 1 FROM lockable WHERE id = %s FOR UPDATE", (number,))
        execute("SELECT 1 FROM lockable WHERE id = 0 FOR UPDATE")  # as every payout job its wallet
        threading.Event().wait()

connect_to(sys.argv[1], "frozen")
for number in range(1, 1 + int(sys.argv[2])):
    threading.Thread(target=work, args=(number,)).start()
"""

_WAITING = """
SELECT 1 FROM pg_stat_activity WHERE application_name = 'frozen' AND datname = current_database()
HAVING count(*) FILTER (WHERE wait_event_type = 'Lock') = %s AND count(*) = %s
"""


def test_two_frozen_threads_that_want_one_lock_free_all_of_theirs_in_time(
    database_url: str, project: Path
) -> None:
    connect_to(database_url)
    execute("CREATE TABLE lockable (id integer PRIMARY KEY)")
    execute("INSERT INTO lockable SELECT generate_series(0, %s)", (THREADS,))
    command = [sys.executable, "-c", WORKER, database_url, str(THREADS)]
    with subprocess.Popen(command, cwd=project) as worker:
        try:
            give_up_at = time.monotonic() + WAIT_S
            while not fetch(_WAITING, (THREADS - 1, THREADS)):
                assert time.monotonic() < give_up_at
                time.sleep(0.02)
            worker.send_signal(signal.SIGSTOP)
            reconnect()
            with contextlib.closing(psycopg2.connect(database_url)) as other:
                other.cursor().execute(f"SET statement_timeout = '{FREE_S}s'")
                other.cursor().execute("SELECT 1 FROM lockable ORDER BY id FOR UPDATE")
        finally:
            worker.kill()
