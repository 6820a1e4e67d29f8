"""The job queue under Dramatiq: rows before messages, effects and completion in one commit.

    enqueue (row + outbox, caller's transaction) → relay → broker → take → run → complete → next
                                                     ↑_____ rescue, retry _____|

A job may be delivered any number of times and takes effect once.
"""
