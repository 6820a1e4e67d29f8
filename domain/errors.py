"""Every error of the program, sorted by what a worker should do with it.

Transient is retried, Rejected fails at once, InvariantBroken alerts and pauses its service.
"""

from datetime import timedelta


class OvernightError(Exception):
    """The root of everything this program raises on purpose."""


class Transient(OvernightError):
    """The same call may succeed later: the job is retried and the attempt counts."""


class Outage(Transient):
    """A dependency (node, registry, broker, SMTP) is down: retried, and the attempt is refunded."""


class Postponed(OvernightError):
    """Nothing is wrong, it is only too early: the job runs again after `delay`, at no attempt."""

    def __init__(self, reason: str, delay: timedelta) -> None:
        super().__init__(reason)
        self.delay = delay


class Rejected(OvernightError):
    """The input or the state can never work: the job fails at once, and a person decides."""


class InvalidInput(Rejected):
    """What a person or a program gave is wrong; the message names the field and the next step."""


class NotFound(Rejected):
    """The thing that was named does not exist; the message says how to list what does."""


class InvariantBroken(OvernightError):
    """Something that must always hold does not: fail, alert, pause the service, never catch."""


class ClaimLost(OvernightError):
    """Another worker owns this job now: stop without effect. The queue alone handles this."""
