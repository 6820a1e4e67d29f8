"""`overnight jobs requeue, discard, cancel, pause, resume, prune, stray`: operate the queue."""

import getpass
from typing import Annotated

import typer

from cli import compose
from cli.output import PARTIAL, AsJson, print_json, print_table, remark, shown
from domain.errors import InvalidInput
from jobs.operations import Action
from jobs.prune import BATCH
from usecases import job_operations as operations
from usecases.jobs import JobFilter, list_stray

Job = Annotated[
    str | None, typer.Argument(help="The job's id, or its first digits; else give a filter.")
]
Type = Annotated[
    str | None, typer.Option("--type", help="Only of a job type, such as PayoutReconcile.")
]
ServiceName = Annotated[
    str | None, typer.Option("--service", help="Only of a service, such as notifications.")
]
Since = Annotated[
    str | None,
    typer.Option(help="Only what ended (or, unfinished, was made) since: 2h, 3d, 2026-11-30T02:00"),
]
ErrorText = Annotated[
    str | None, typer.Option("--error", help="Only where the last error has this text.")
]
All = Annotated[bool, typer.Option("--all", help="All of them; instead of a filter.")]
By = Annotated[str | None, typer.Option(help="Who does it, for the record; default: the user.")]
Reason = Annotated[str | None, typer.Option(help="Why, for the record.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]

_FILTER_EPILOG = """Examples:

  overnight jobs {0} 3f9e99

  overnight jobs {0} --type NotificationIndividualProcessor --error timeout --since 2h --dry-run

Exit code 3 when some of several were refused."""

#: Refusals that are printed; --json has all.
_SHOWN_REFUSALS = 20


def add_to(app: typer.Typer) -> None:
    """Mount the commands on `overnight jobs`."""
    for name, command in (("requeue", requeue), ("discard", discard), ("cancel", cancel)):
        app.command(name, epilog=_FILTER_EPILOG.format(name))(command)
    app.command(epilog="Example:\n\n  overnight jobs pause notifications --reason 'SMTP is down'")(
        pause
    )
    app.command()(resume)
    app.command(epilog="Example:\n\n  overnight jobs prune --older-than 90d --dry-run")(prune)
    app.command()(stray)


def filter_of(
    status: str | None,
    job_type: str | None,
    service: str | None,
    since: str | None,
    error: str | None,
) -> JobFilter:
    """The filter of a command's options, inside of `compose.database`."""
    moment = operations.moment(since) if since is not None else None
    return JobFilter(status, job_type, service, moment, error)


def requeue(
    job: Job = None,
    job_type: Type = None,
    service: ServiceName = None,
    since: Since = None,
    error: ErrorText = None,
    everything: All = False,
    reason: Reason = None,
    by: By = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Let failed jobs run again from their first attempt; what was tried stays on record.

    One job by its id (also a cancelled one), or every failed job of a filter. A payout job is
    refused: its run is retried instead.
    """
    given = (job_type, service, since, error)
    _operate(Action.REQUEUE, job, given, everything, reason, by, dry_run, as_json)


def discard(
    job: Job = None,
    job_type: Type = None,
    service: ServiceName = None,
    since: Since = None,
    error: ErrorText = None,
    everything: All = False,
    reason: Reason = None,
    by: By = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Take failed jobs off the list of dead letters: they become cancelled, and expire.

    Until they are pruned, `requeue` brings each of them back. Payout jobs are never discarded.
    """
    given = (job_type, service, since, error)
    _operate(Action.DISCARD, job, given, everything, reason, by, dry_run, as_json)


def cancel(
    job: Job = None,
    job_type: Type = None,
    service: ServiceName = None,
    since: Since = None,
    error: ErrorText = None,
    everything: All = False,
    reason: Reason = None,
    by: By = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Cancel jobs that wait: pending, retrying or parked ones; later steps never come.

    A job that a worker runs is refused, and so is a payout job: its run is stopped instead.
    """
    given = (job_type, service, since, error)
    _operate(Action.CANCEL, job, given, everything, reason, by, dry_run, as_json)


def pause(
    name: Annotated[str, typer.Argument(help="A service or a job type.")],
    reason: Annotated[str, typer.Option(help="Why; `jobs stats` shows it.")],
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Stop new work of a service or job type; what runs, settles or is rescued goes on."""
    with compose.database():
        result = operations.pause(name, reason, by or getpass.getuser())
    if as_json:
        print_json(result)
    elif result.changed:
        typer.echo(f"{result.scope} is paused")
    else:
        typer.echo(f"{result.scope} was paused before, with its reason: `overnight jobs stats`")


def resume(
    name: Annotated[str, typer.Argument(help="A service or a job type.")],
    as_json: AsJson = False,
) -> None:
    """Let new work of a service or job type begin again."""
    with compose.database():
        result = operations.resume(name)
    if as_json:
        print_json(result)
    else:
        typer.echo(f"{result.scope} {'goes on' if result.changed else 'was not paused'}")


def prune(
    older_than: Annotated[
        str, typer.Option(help="Finished longer ago than this: 30d, 12h, 2w.")
    ] = f"{operations.RETENTION.days}d",
    batch: Annotated[
        int, typer.Option(min=1, max=100_000, help="Jobs of one transaction.")
    ] = BATCH,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Forget completed and cancelled jobs with their attempts; done every night, too.

    Failed jobs, and those of unfinished payout runs, stay.
    """
    with compose.database():
        result = operations.prune(operations.duration(older_than), batch, dry_run=dry_run)
    if as_json:
        print_json(result)
    else:
        words = "jobs would be pruned" if dry_run else "jobs pruned"
        typer.echo(f"{result.deleted:,} {words}, finished before {shown(result.before)} UTC")


def stray(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = 50,
    forget: Annotated[
        int | None, typer.Option(help="Delete the one with this number, once it is understood.")
    ] = None,
    forget_older: Annotated[
        str | None, typer.Option("--forget-older-than", help="Delete older ones: 30d, 12h.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List messages that came from the broker and were no job's: kept, acked, without effect."""
    if forget is not None and forget_older is not None:
        raise typer.BadParameter("choose one of --forget and --forget-older-than")
    if forget is not None or forget_older is not None:
        older = operations.duration(forget_older) if forget_older is not None else None
        with compose.database():
            deleted = operations.forget_stray(forget, older)
        print_json({"deleted": deleted}) if as_json else typer.echo(f"{deleted} deleted")
        return
    with compose.database():
        found = list_stray(limit)
    if as_json:
        print_json(found)
        return
    print_table(
        ("number", "received", "queue", "reason", "body"),
        [(str(s.id), s.received_at, s.queue, s.reason, s.body[:200]) for s in found],
        right=("number",),
    )
    if not found:
        remark("no stray messages")


def _operate(
    action: Action,
    job: str | None,
    given: tuple[str | None, str | None, str | None, str | None],
    everything: bool,
    reason: str | None,
    by: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    filtered = any(part is not None for part in given)
    if (job is not None) + filtered + everything != 1:
        raise InvalidInput(
            "give a job, or a filter (--type, --service, --since, --error), or --all"
        )
    by = by or getpass.getuser()
    with compose.database():
        if job is not None:
            if dry_run:
                raise InvalidInput("--dry-run: `overnight jobs show JOB` tells how one job stands")
            result = operations.operate_one(action, job, by, reason)
        else:
            wanted = filter_of(None, *given)
            result = operations.operate_many(action, wanted, by, reason, dry_run=dry_run)
    if as_json:
        print_json(result)
    else:
        typer.echo(f"{result.done:,} {'would be ' if dry_run else ''}{result.action}")
        for outcome in result.refused[:_SHOWN_REFUSALS]:
            remark(f"refused: {outcome.job_id}: {outcome.objection}")
        if len(result.refused) > _SHOWN_REFUSALS:
            remark(f"… {len(result.refused):,} refused in all; --json has them")
    if result.refused:
        raise typer.Exit(PARTIAL)
