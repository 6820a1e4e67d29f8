"""`overnight jobs`: what the job queue is doing; how to operate it is in cli/job_operations.py."""

from typing import Annotated

import typer

from cli import compose, job_operations
from cli.job_operations import ErrorText, ServiceName, Since, filter_of
from cli.output import AsJson, print_facts, print_json, print_table, shown
from usecases.jobs import JobDetail, list_jobs, show_job, stats

app = typer.Typer(help="Look at the job queue, and operate it.", no_args_is_help=True)


@app.command("stats")
def stats_(as_json: AsJson = False) -> None:
    """Count jobs by service, type and status, with the workers alive and the oldest due job."""
    with compose.database():
        found = stats()
    if as_json:
        print_json(found)
        return
    facts = {name.replace("_", " "): value for name, value in vars(found).items()}
    del facts["counts"]
    del facts["pauses"]
    facts["paused"] = ", ".join(found.paused) or None
    print_facts(facts)
    for each in found.pauses:
        typer.echo(f"  {each.scope}: {each.reason} (by {each.paused_by}, {shown(each.paused_at)})")
    if found.counts:
        typer.echo()
        print_table(
            ("service", "job type", "status", "jobs"),
            [(c.service, c.job_type, c.status, c.jobs) for c in found.counts],
            right=("jobs",),
        )


_LIST_EPILOG = """Dead letters of the last night:

  overnight jobs list --status failed --since 12h --error timeout"""


@app.command("list", epilog=_LIST_EPILOG)
def list_(
    status: Annotated[
        str | None, typer.Option(help="pending, processing, retrying, completed, failed, cancelled")
    ] = None,
    job_type: Annotated[
        str | None, typer.Option("--type", help="A job type, such as MaturityTokenBurn.")
    ] = None,
    service: ServiceName = None,
    since: Since = None,
    error: ErrorText = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List the newest jobs that fit all that is given; failed ones are the dead letters."""
    with compose.database():
        wanted = filter_of(status, job_type, service, since, error)
        jobs = list_jobs(limit=limit, wanted=wanted)
    if as_json:
        print_json(jobs)
        return
    columns = ("job", "type", "status", "attempts", "deaths", "created", "last error")
    print_table(
        columns,
        [
            (
                job.id, job.job_type, job.status, job.attempts, job.deaths, job.created_at,
                (job.last_error or "").partition("\n")[0][:80],
            )
            for job in jobs
        ],
        right=("attempts", "deaths"),
    )  # fmt: skip


@app.command(epilog="Example:\n\n  overnight jobs show 3f9e99")
def show(
    job: Annotated[str, typer.Argument(help="The job's id, or its first digits.")],
    as_json: AsJson = False,
) -> None:
    """Show one job: payload, state, what was done to it, each failed attempt with its traceback."""
    with compose.database():
        detail = show_job(job)
    if as_json:
        print_json(detail)
    else:
        _print(detail)


def _print(detail: JobDetail) -> None:
    rest = {k: v for k, v in vars(detail).items() if k not in ("job", "attempts", "actions")}
    facts = {**vars(detail.job), **rest}
    if detail.job.run_at is None and detail.job.status == "pending":
        facts["run_at"] = "parked until the step before is final"
    print_facts({name.replace("_", " "): value for name, value in facts.items()})
    for action in detail.actions:
        typer.echo(
            f"\n{action.action} at {shown(action.at)} by {action.by_whom},"
            f" after {action.attempts} attempts and {action.deaths} deaths"
            + (f": {action.reason}" if action.reason else "")
        )
    for attempt in detail.attempts:
        typer.echo(f"\nattempt {attempt.attempt}: {attempt.outcome} at {shown(attempt.ended_at)}")
        typer.echo(f"  {attempt.error}")
        if attempt.traceback:
            typer.echo("\n".join(f"  {line}" for line in attempt.traceback.splitlines()))


job_operations.add_to(app)
