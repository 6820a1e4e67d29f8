"""`overnight bonds`: import a bond with its register of holders, list bonds, show one."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from cli import compose
from cli.mock_seeding import seed_mock_chain
from cli.output import USAGE, AsJson, print_facts, print_json, print_table, remark, shown
from cli.progress import Progress
from domain.bond_register import SHOWN_PROBLEMS, BadBondFile, Problem, describe
from usecases.bonds import has_runs, import_bond, list_bonds, list_holders, show_bond

app = typer.Typer(help="Import bonds with their holders, and look at them.", no_args_is_help=True)

_IMPORT_EPILOG = """Examples:

  overnight bonds import bond.json

  overnight bonds import bond.json --holders holders.csv --seed-mock-chain

The formats are in docs/cli.md."""


@app.command("import", epilog=_IMPORT_EPILOG)
def import_(
    file: Annotated[
        Path,
        typer.Argument(
            exists=True, dir_okay=False, readable=True, help="bond.json: terms and investors."
        ),
    ],
    holders: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, readable=True, help="The holders as CSV, row by holding."
        ),
    ] = None,
    seed: Annotated[
        bool,
        typer.Option(
            "--seed-mock-chain",
            help="Also give the holders their tokens on the mock chain, and whitelist them there.",
        ),
    ] = False,
    show_errors: Annotated[
        int, typer.Option(min=0, help="How many problems to print; 0 prints all.")
    ] = SHOWN_PROBLEMS,
    as_json: AsJson = False,
) -> None:
    """Import a bond whole, or report every bad row and import nothing.

    The same content again changes nothing. Changed content replaces the register until the bond
    is triggered, and is refused after that.
    """
    with compose.database() as settings:
        chain = compose.mock_chain(settings) if seed else None
        try:
            imported = import_bond(_text_of(file), _lines_of(holders))
        except BadBondFile as error:
            _report(error.problems, show_errors, as_json)
            raise typer.Exit(USAGE) from None
        facts = {
            "bond": imported.terms.id,
            "outcome": imported.outcome,
            "holders": imported.holders,
            "tokens": imported.tokens,
            "digest": imported.digest,
        }
        if chain and has_runs(imported.terms.id):
            remark("the bond was triggered already, so the mock chain is left as it is")
        elif chain:
            seeded = seed_mock_chain(chain, imported.file)
            facts |= {"seeded_tokens": seeded.tokens, "verified": seeded.verified}
    if as_json:
        print_json(facts)
    else:
        print_facts(facts)


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the bonds in order of maturity, with what they pay and their newest run."""
    with compose.database():
        bonds = list_bonds()
    if as_json:
        print_json(bonds)
        return
    columns = ("bond", "name", "matures", "holders", "whitelisted", "total", "token", "run")
    print_table(
        columns,
        [
            (b.id, b.name, b.maturity_date, b.holders, b.whitelisted, b.total, b.token, b.run_state)
            for b in bonds
        ],
        right=("holders", "whitelisted", "total"),
    )
    if not bonds:
        remark("no bonds yet: `overnight bonds import bond.json`, or `overnight demo`")


@app.command()
def show(
    bond: Annotated[str, typer.Argument(help="The bond's id.")],
    holders: Annotated[bool, typer.Option("--holders", help="Also print the register.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a bond's terms, its totals, its runs and, if wanted, its register."""
    with compose.database():
        detail = show_bond(bond)
        register = list_holders(bond) if holders else []
    if as_json:
        print_json({**vars(detail), "holders": register} if holders else detail)
        return
    summary = {k: v for k, v in vars(detail.summary).items() if k not in ("run_id", "run_state")}
    terms = {k: v for k, v in vars(detail).items() if k not in ("summary", "runs")}
    print_facts({**summary, **terms})
    for run in detail.runs:
        typer.echo(f"run  {run.id}  {run.kind}  {run.state}  {shown(run.triggered_at)}")
    if holders:
        print_table(
            ("address", "tokens", "whitelisted", "name", "email"),
            [(h.address, h.tokens, h.whitelisted, h.name, h.email) for h in register],
            right=("tokens",),
        )


def _report(problems: list[Problem], limit: int, as_json: bool) -> None:
    if as_json:
        print_json({"outcome": "refused", "count": len(problems), "problems": problems})
    else:
        remark("error: " + describe(problems, limit or len(problems)))


def _text_of(path: Path) -> str:
    content = path.read_bytes()
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BadBondFile([Problem("", f"not UTF-8: {error.reason}", line)]) from None


def _lines_of(path: Path | None) -> Iterable[str] | None:
    return None if path is None else _stream(path)


def _stream(path: Path) -> Iterator[str]:
    with ExitStack() as stack:
        lines = stack.enter_context(path.open(encoding="utf-8", newline=""))
        progress = stack.enter_context(Progress(f"reading {path.name}", unit="lines"))
        for line in lines:
            progress.advance()
            yield line
