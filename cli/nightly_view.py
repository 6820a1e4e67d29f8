"""How a night is shown: its report in the morning, and what one would do."""

import typer

from cli.output import print_table, shown
from usecases.research.preview import Preview
from usecases.research.report import NightReport, RunReport

SAMPLE = "SAMPLE DATA: invented figures of the mock providers, for trying things out"


def print_report(found: NightReport, *, brief: bool = False) -> None:
    """The whole report; `brief` when each run's end was told already."""
    began = f"{shown(found.created_at)} UTC"
    outcome = found.outcome or "still under way"
    where = f"slot {found.slot_id}" if found.slot_id else "by hand"
    typer.echo(f"night {found.nightly_id[:8]} of {began}, {where}: {outcome}")
    if found.sample_data:
        typer.echo(SAMPLE)
    if brief:
        typer.echo("the whole report: overnight nightly report")
        return
    typer.echo("")
    print_table(
        ("job", "outcome", "updated", "skipped", "errors", "left out", "took"),
        [
            (
                run.job, _state(run), run.updated, run.skipped, run.errors, run.left_out,
                run.finished_at - run.started_at if run.finished_at and run.started_at else None,
            )
            for run in found.runs
        ],
        right=("updated", "skipped", "errors", "left out", "took"),
    )  # fmt: skip
    _print_reasons(found)
    _print_providers(found)
    _print_freshness(found)


def _state(run: RunReport) -> str:
    if run.outcome is not None:
        return run.outcome
    return "waits" if run.started_at is None else f"under way, {run.waiting:,} to go"


def _print_reasons(found: NightReport) -> None:
    for run in found.runs:
        if run.reasons or (run.outcome in ("failed", "refused") and run.reason):
            typer.echo(f"\n{run.job}")
        if run.outcome in ("failed", "refused") and run.reason:
            typer.echo(f"  {run.outcome}: {run.reason}")
        for reason in run.reasons:
            kind = "left out" if reason.left_out and reason.status == "skipped" else reason.status
            names = ", ".join(reason.examples) + (
                " …" if reason.count > len(reason.examples) else ""
            )
            typer.echo(f"  {kind} {reason.count:,}: {reason.reason} ({names})")
            if reason.detail and (reason.left_out or reason.status == "error"):
                typer.echo(f"    for example: {reason.detail}")


def _print_providers(found: NightReport) -> None:
    typer.echo("\nproviders")
    for run in found.runs:
        for use in run.providers:
            why = f", because {use.fallback_reason}" if use.fallback_reason else ""
            typer.echo(f"  {run.job}: {use.provider} answered {use.count:,}{why}")
    for budget in found.budgets:
        left = "no limit" if budget.left_today is None else f"{budget.left_today:,} left today"
        line = f"  {budget.provider}: {budget.used_today:,} calls today, {left}"
        if budget.blocked_until is not None:
            line += f"; not asked until {shown(budget.blocked_until)} UTC: {budget.block_reason}"
        typer.echo(line)


def _print_freshness(found: NightReport) -> None:
    now = found.staleness
    typer.echo(f"\nfreshness of {now.companies:,} companies")
    typer.echo(f"  without the last closed session: {now.without_last_session:,}")
    if now.without_last_session:
        names = ", ".join(now.stalest)
        typer.echo(f"    oldest newest session: {shown(now.oldest_session)} ({names})")
    typer.echo(f"  statements never checked: {now.statements_never_checked:,}")
    typer.echo(f"  statements checked more than 8 days ago: {now.statements_older_than_8_days:,}")
    typer.echo(f"  metrics behind their inputs: {now.metrics_behind:,}")


def print_preview(found: Preview) -> None:
    """What a night would do."""
    if found.refused is not None:
        typer.echo(f"it would be refused: {found.refused}\n")
    print_table(
        ("job", "would work on", "would skip", "calls"),
        [
            (run.job, run.would_work, run.would_skip, _calls(run.calls_min, run.calls_max))
            for run in found.runs
        ],
        right=("would work on", "would skip", "calls"),
    )
    for budget in found.budgets:
        if budget.left_today is not None:
            typer.echo(f"{budget.provider}: {budget.left_today:,} calls left today")
    typer.echo("nothing was written")


def _calls(low: int, high: int | None) -> str:
    if high is None:
        return f"{low:,} or more"
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
