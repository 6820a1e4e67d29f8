"""What must be true of the job queue once everything is calm, in SQL of our own."""

from verify.rules import Query, broken_rules

_RULES = (
    (
        "a job is neither at an end nor scheduled",
        "SELECT j.job_type, j.status FROM job_queue j LEFT JOIN job_outbox o ON o.job_id = j.id"
        " WHERE j.finished_at IS NULL AND (o.job_id IS NULL"
        " OR (o.due_at IS NULL AND j.status <> 'processing' AND j.run_at IS NOT NULL))",
    ),
    (
        "a finished job is still in the outbox",
        "SELECT j.job_type, j.status FROM job_queue j JOIN job_outbox o ON o.job_id = j.id"
        " WHERE j.finished_at IS NOT NULL",
    ),
    (
        "an outbox entry has no job",
        "SELECT o.job_type FROM job_outbox o LEFT JOIN job_queue j ON j.id = o.job_id"
        " WHERE j.id IS NULL",
    ),
    (
        "a job is in nobody's hands and nobody rescues it",
        "SELECT job_type, status FROM job_queue WHERE status = 'processing'",
    ),
    (
        "an actor failed by itself",
        "SELECT j.job_type, a.error FROM job_attempt a JOIN job_queue j ON j.id = a.job_id"
        " WHERE a.outcome = 'failed'",
    ),
    ("a delivery had no job", "SELECT queue, reason FROM stray_message"),
    ("a service paused itself", "SELECT scope, reason FROM pause WHERE paused_by = 'overnight'"),
)


def broken_queue_rules(query: Query, but: tuple[str, ...] = ()) -> list[str]:
    """Every rule that does not hold, with the first rows that break it."""
    return broken_rules(query, (rule for rule in _RULES if rule[0] not in but))
