"""`overnight jobs`: what the job queue is doing."""

from typing import Annotated

import typer

from cli import compose
from cli.output import AsJson, print_facts, print_json, print_table, shown
from usecases.jobs import JobDetail, list_jobs, show_job, stats

app = typer.Typer(help="Look at the job queue.", no_args_is_help=True)


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
    facts["paused"] = ", ".join(found.paused) or None
    print_facts(facts)
    if found.counts:
        typer.echo()
        print_table(
            ("service", "job type", "status", "jobs"),
            [(c.service, c.job_type, c.status, c.jobs) for c in found.counts],
            right=("jobs",),
        )


@app.command("list", epilog="Example:\n\n  overnight jobs list --status failed --limit 20")
def list_(
    status: Annotated[
        str | None, typer.Option(help="pending, processing, retrying, completed, failed, cancelled")
    ] = None,
    job_type: Annotated[
        str | None, typer.Option("--type", help="A job type, such as MaturityTokenBurn.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List the newest jobs, optionally of one status or type."""
    with compose.database():
        jobs = list_jobs(status, job_type, limit)
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
    """Show one job: payload, state, and every attempt that failed, with its traceback."""
    with compose.database():
        detail = show_job(job)
    if as_json:
        print_json(detail)
    else:
        _print(detail)


def _print(detail: JobDetail) -> None:
    rest = {k: v for k, v in vars(detail).items() if k not in ("job", "attempts")}
    facts = {**vars(detail.job), **rest}
    if detail.job.run_at is None and detail.job.status == "pending":
        facts["run_at"] = "parked until the step before is final"
    print_facts({name.replace("_", " "): value for name, value in facts.items()})
    for attempt in detail.attempts:
        typer.echo(f"\nattempt {attempt.attempt}: {attempt.outcome} at {shown(attempt.ended_at)}")
        typer.echo(f"  {attempt.error}")
        if attempt.traceback:
            typer.echo("\n".join(f"  {line}" for line in attempt.traceback.splitlines()))
