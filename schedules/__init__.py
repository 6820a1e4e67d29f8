"""The nightly schedules, for `periodiq schedules`: a tick each minute that opens due slots.

    periodiq → tick message → worker → open_due_slots (usecases/schedule.py) → row + job

periodiq alone would drop late ticks and fire twice with two schedulers; the slot's row decides.
The broker is the one of `actors`: a scheduler sends only what a worker can run.
"""

import actors  # noqa: F401 - composes the broker, with the ticks that periodiq finds on it
