"""`overnight verify`: prove on this machine that no payment is lost and none is made twice."""

import json
from importlib import import_module
from typing import Annotated, Any

import typer

from cli.output import DONE, FAILED, AsJson, print_json, print_table, remark
from cli.progress import Progress
from domain.errors import InvalidInput
from settings import load_settings
from verify.regressions import keep, regressions
from verify.runner import Case, Report, Result, cases, replay, run, server

#: A look of a minute or so; the full proof is --seeds 10000.
DEFAULT_SEEDS = 1_000


def add_to(app: typer.Typer) -> None:
    """Mount the command on the root."""
    app.command(epilog="What it proves and what it does not: docs/proof.md.")(verify)


def verify(
    seeds: Annotated[int, typer.Option(min=1, help="How many schedules.")] = DEFAULT_SEEDS,
    first_seed: Annotated[int, typer.Option(min=0, help="Where the seeds begin.")] = 1,
    flow: Annotated[str | None, typer.Option(help="Only this flow.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; one per core.")] = None,
    keep_seed: Annotated[
        int | None, typer.Option("--keep", help="Make this seed of --flow a regression test.")
    ] = None,
    why: Annotated[str, typer.Option(help="With --keep: what it found.")] = "",
    real: Annotated[
        bool, typer.Option(help="Kill real workers, brokers and databases instead.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run seeded schedules of crashes, lost messages and reorgs, and check every payment."""
    _check_flow(flow)
    if keep_seed is not None and flow is None:
        raise InvalidInput("--keep needs --flow: a seed is a schedule of one flow")
    if real:
        raise typer.Exit(_real(first_seed, as_json))
    given = load_settings().database_url
    with server(given.get_secret_value() if given else None) as url:
        if keep_seed is not None and flow is not None:
            _keep(url, Case(flow, keep_seed), why)
            return
        if seeds == 1:
            report = _replay(url, cases(flow, first_seed, 1)[0], as_json)
        else:
            report = _many(url, flow, first_seed, seeds, jobs)
    if as_json:
        print_json(as_dict(report))
    else:
        _print(report)
    raise typer.Exit(DONE if report.held else FAILED)


def as_dict(report: Report) -> dict[str, object]:
    """The report with stable keys."""
    return {
        "schedules": report.schedules,
        "crashes": report.crashes,
        "violations": [{**vars(found), "replay": found.replay} for found in report.violations],
        "flows": dict(report.flows),
        "faults": dict(report.faults.most_common()),
        "steps": report.steps,
        "seconds": round(report.seconds, 2),
        "drifted": [vars(case) for case in report.drifted],
        "errors": report.broken,
    }


def _check_flow(flow: str | None) -> None:
    from verify.flow import flows

    if flow is not None and flow not in flows():
        raise InvalidInput(f"--flow: {flow!r} is unknown; known are {', '.join(flows())}")


def _real(seed: int, as_json: bool) -> int:
    """The real lane, for as long as it takes; its other options: python -m verify.real --help."""
    lane: Any = import_module("verify.real")
    report = lane.run_real_lane(lane.RealOptions(seed=seed), remark)
    typer.echo(json.dumps(report.as_json(), indent=1) if as_json else report.as_text())
    return DONE if report.ok else FAILED


def _keep(url: str, case: Case, why: str) -> None:
    """A failing seed, with what it found; one that fails no more needs `--why`."""
    result = replay(url, case)
    reason = why or "; ".join(result.violations)
    if not reason:
        raise InvalidInput(f"{case.flow} {case.seed} finds nothing: say with --why what it found")
    typer.echo(f"kept in {keep(case, result.trace_hash, reason)}")


def _replay(url: str, case: Case, as_json: bool) -> Report:
    """One seed, with its trace on the screen."""
    result, report = replay(url, case), Report()
    report.add(case, result)
    if not as_json:
        for line in result.lines:
            typer.echo(line)
        typer.echo(f"trace {result.trace_hash}")
    return report


def _many(url: str, flow: str | None, first_seed: int, seeds: int, jobs: int | None) -> Report:
    kept = {case: trace for case, trace in regressions().items() if flow in (None, case.flow)}
    todo = [*kept, *cases(flow, first_seed, seeds)]
    with Progress("proof", len(todo), "schedules", slow=True) as progress:

        def tell(case: Case, result: Result) -> None:
            progress.advance(1)
            if result.violations:
                remark(f"{case.flow} {case.seed}: {'; '.join(result.violations)}")

        return run(url, todo, jobs=jobs, traces=kept, on_result=tell)


def _print(report: Report) -> None:
    rows = [(kind, count) for kind, count in sorted(report.faults.items())]
    print_table(("fault", "injected"), rows, right=("injected",))
    flows = ", ".join(f"{count:,} of {name}" for name, count in sorted(report.flows.items()))
    rate = report.schedules / report.seconds if report.seconds else 0
    typer.echo("")
    typer.echo(f"{report.schedules:,} schedules ({flows}), {report.crashes:,} crashes")
    if report.seconds:
        typer.echo(f"{report.seconds:,.1f} s, {rate:,.1f} schedules/s")
    for case in report.drifted:
        typer.echo(f"drifted: regression {case.flow} {case.seed} is another schedule by now")
    for error in report.broken:
        typer.echo(f"the simulation failed: {error}")
    for found in report.violations:
        typer.echo(f"VIOLATION {found.flow} {found.seed}: {'; '.join(found.what)}")
        typer.echo(f"  {found.replay}")
    if report.held:
        typer.echo("held: nobody was paid twice, nobody was forgotten, every book balances")
