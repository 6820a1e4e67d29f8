"""`overnight companies`: whom research follows."""

from typing import Annotated

import typer

from cli import compose
from cli.output import AsJson, print_facts, print_json, print_table, remark, shown
from domain.errors import InvalidInput
from settings import Settings, load_settings

app = typer.Typer(help="Companies that the nightly research follows.", no_args_is_help=True)

Symbol = Annotated[str, typer.Argument(help="The company's symbol, such as AAPL.")]

_ADD_EPILOG = """Examples:

  overnight companies add AAPL MSFT

  overnight companies add HDFCBANK --name "HDFC Bank" --exchange NSE --currency INR

  overnight companies add --sample"""


@app.command(epilog=_ADD_EPILOG)
def add(
    symbols: Annotated[list[str] | None, typer.Argument(help="Symbols, such as AAPL.")] = None,
    name: Annotated[str | None, typer.Option(help="Instead of the provider's.")] = None,
    exchange: Annotated[str | None, typer.Option(help="Instead of the provider's.")] = None,
    currency: Annotated[str | None, typer.Option(help="In which it trades, such as USD.")] = None,
    cik: Annotated[str | None, typer.Option(help="The SEC's number of the company.")] = None,
    sample: Annotated[
        bool, typer.Option("--sample", help="All companies of the mock providers' data.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Follow companies. What is not given is asked of the provider."""
    from usecases.research.companies import Given, add_company

    if bool(symbols) == sample:
        raise InvalidInput("companies add: give symbols, or --sample")
    if (name or cik) and len(symbols or ()) != 1:
        raise InvalidInput("companies add: --name and --cik go with one symbol")
    with compose.research() as settings:
        if sample:
            facts = dict.fromkeys(add_samples(settings), True)
        else:
            given = Given(name, exchange, currency, cik)
            facts = {symbol.upper(): add_company(symbol, given) for symbol in symbols or ()}
    if as_json:
        print_json({"added": [s for s, new in facts.items() if new], "known": [
            s for s, new in facts.items() if not new]})  # fmt: skip
        return
    for symbol, new in facts.items():
        typer.echo(f"{symbol}: {'followed from now on' if new else 'was known; is followed'}")


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the companies with what is known of them."""
    from usecases.research.companies import list_companies

    with compose.database():
        rows = list_companies()
    if as_json:
        print_json(rows)
        return
    columns = ("symbol", "name", "exchange", "followed", "next report", "last session", "quarter",
               "market cap", "currency")  # fmt: skip
    print_table(
        columns,
        [
            (
                row.symbol, row.name, row.exchange, row.active and row.tracked,
                row.next_earnings_date, row.last_session, row.last_quarter, row.market_cap,
                row.currency,
            )
            for row in rows
        ],
        right=("market cap",),
    )  # fmt: skip
    if not rows:
        remark("no companies yet: `overnight companies add AAPL`, or `overnight nightly --all`")


@app.command()
def show(symbol: Symbol, as_json: AsJson = False) -> None:
    """Show one company: what is stored, and when each job last heard of it."""
    from usecases.research.companies import show_company

    with compose.database():
        found = show_company(symbol)
    if as_json:
        print_json(found)
        return
    rest = {k: v for k, v in vars(found).items() if k not in ("company", "checked")}
    facts = {**vars(found.company), **rest}
    print_facts({name.replace("_", " "): value for name, value in facts.items()})
    for job, at in found.checked.items():
        typer.echo(f"{job} last heard of it at {shown(at)} UTC")


@app.command()
def untrack(symbol: Symbol, as_json: AsJson = False) -> None:
    """Work for a company no longer; what is stored stays. `companies add` follows it again."""
    _followed(symbol, as_json, tracked=False)


@app.command()
def deactivate(symbol: Symbol, as_json: AsJson = False) -> None:
    """Say that a company is no longer listed; what is stored stays."""
    _followed(symbol, as_json, active=False)


def _followed(
    symbol: str, as_json: bool, *, active: bool | None = None, tracked: bool | None = None
) -> None:
    from usecases.research.companies import set_followed

    with compose.database():
        row = set_followed(symbol, active=active, tracked=tracked)
    if as_json:
        print_json(row)
    else:
        typer.echo(f"{row.symbol}: listed {shown(row.active)}, followed {shown(row.tracked)}")


def add_samples(settings: Settings | None = None) -> list[str]:
    """Follow every company of the mocks' golden copy; their symbols."""
    settings = settings or load_settings()
    if settings.environment == "production":
        raise InvalidInput("--sample: ENVIRONMENT=production has no mock providers")
    from mocks.market import GOLDEN, sample_symbols
    from usecases.research.companies import add_company

    symbols = sample_symbols(settings.mock_data_path or GOLDEN)
    for symbol in symbols:
        add_company(symbol)
    return symbols
