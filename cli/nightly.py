"""`overnight nightly`: run the nightly research jobs here and now, resume them, read the report."""

from datetime import date
from typing import Annotated

import typer

from cli import compose
from cli.nightly_view import print_preview, print_report
from cli.output import DONE, FAILED, PARTIAL, AsJson, print_json, remark
from domain.errors import InvalidInput
from domain.research import ResearchJob
from settings import load_settings

app = typer.Typer(
    help="Refresh earnings dates, prices, rates, documents, statements and metrics.",
    invoke_without_command=True,
)

_EPILOG = """Examples:

  overnight nightly --all

  overnight nightly --job price_refresh --dry-run

  overnight nightly report

Exit code: 1 when a job failed or was refused, 3 when one left something out, else 0."""


@app.callback(epilog=_EPILOG)
def nightly(
    context: typer.Context,
    everything: Annotated[
        bool, typer.Option("--all", help="All jobs in sequence; one that fails stops no other.")
    ] = False,
    job: Annotated[ResearchJob | None, typer.Option(help="Only this job.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with what an earlier run left unfinished.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and its cost in calls.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run the nightly jobs here and now, without taking a slot of the schedule.

    A crash loses nothing: --resume, or any worker, goes on where it stopped.
    """
    if context.invoked_subcommand is not None:
        if everything or job or resume or dry_run or as_json:
            raise InvalidInput("options such as --all go without a subcommand")
        return
    if everything + (job is not None) + resume != 1:
        raise InvalidInput("nightly: give one of --all, --job NAME and --resume; or report")
    if resume and dry_run:
        raise InvalidInput("nightly: --dry-run goes with --all or --job, not with --resume")
    jobs = [job] if job is not None else list(ResearchJob)
    if dry_run:
        _dry_run(jobs, as_json)
        return
    raise typer.Exit(run(None if resume else jobs, as_json))


def run(jobs: list[ResearchJob] | None, as_json: bool) -> int:
    """Run a night of these jobs, or (None) go on with the unfinished ones; the exit code."""
    from cli.nightly_run import begin, follow, unfinished, worker_for_itself
    from usecases.research.report import report_of_night

    with worker_for_itself() as works:
        if jobs is None:
            nights = unfinished()
            if not nights:
                remark("nothing to resume: every night is over")
                return DONE
        else:
            _with_companies()
            nights = [begin(jobs)]
        for nightly_id in nights:
            follow(nightly_id, works=works, say=remark if as_json else typer.echo)
        reports = [report_of_night(nightly_id) for nightly_id in nights]
    if as_json:
        print_json(reports[0] if len(reports) == 1 else reports)
    else:
        for each in reports:
            print_report(each, brief=True)
    outcomes = {run.outcome for each in reports for run in each.runs}
    if outcomes & {"failed", "refused"}:
        return FAILED
    return PARTIAL if "partial" in outcomes else DONE


@app.command(epilog="Example:\n\n  overnight nightly report 2026-11-25")
def report(
    day: Annotated[
        str | None,
        typer.Argument(
            metavar="[DATE]", help="The day on which the night began, in Kolkata; default: newest."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What a night did, what it left out and why, and how fresh the data is now."""
    from usecases.research.report import report_of

    try:
        wanted = None if day is None else date.fromisoformat(day)
    except ValueError:
        raise InvalidInput(f"DATE: expected YYYY-MM-DD, not {day!r}") from None
    with compose.research():
        found = report_of(wanted)
    if as_json:
        print_json(found)
    else:
        print_report(found)


def _dry_run(jobs: list[ResearchJob], as_json: bool) -> None:
    from usecases.research.companies import has_companies
    from usecases.research.preview import preview_night

    with compose.research():
        found = preview_night(jobs)
        if not has_companies():
            remark("no companies yet: the first run follows those of the sample data")
    if as_json:
        print_json(found)
    else:
        print_preview(found)


def _with_companies() -> None:
    """A newcomer sees something: without any company, those of the mock's data are followed."""
    from cli.companies import add_samples
    from usecases.research.companies import has_companies
    from usecases.research.report import is_sample_data

    if has_companies() or not is_sample_data():
        return
    added = add_samples(load_settings())
    remark(
        f"no companies yet: following the {len(added)} of the mock providers' data"
        f" ({', '.join(added)}). SAMPLE DATA: nothing of it is for decisions."
    )
