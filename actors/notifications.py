"""Notifications: one database record per user and event, however often it is delivered."""

from domain.job_types import JobType
from jobs.actor import actor
from usecases.payouts.record import write_notification, write_notifications


@actor(JobType.NOTIFICATION_FANOUT)
def notification_fanout(kind: str, subject_id: str) -> None:
    """Write everybody's notification of one event, in the transaction that the queue opened."""
    write_notifications(kind, subject_id)


@actor(JobType.NOTIFICATION_INDIVIDUAL)
def notification_individual(kind: str, subject_id: str) -> None:
    """Write one user's notification, in the transaction that the queue opened."""
    write_notification(kind, subject_id)
