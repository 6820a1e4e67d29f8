"""The `overnight` command: one module for each group of commands."""

import typer

from cli import (
    bonds,
    companies,
    compose,
    demo,
    jobs,
    maturity,
    metrics,
    mockchain,
    nightly,
    payouts,
    schedule,
    verify,
    wallet,
    worker,
)
from cli.errors import ErrorGroup, until_the_end
from mocks.chain import MockChain

_EPILOG = """Exit codes: 0 done, 1 failed, 2 usage or bad input, 3 finished with holds, failures or
partial results.

Begin with: overnight demo"""


def _chain() -> MockChain:
    return compose.mock_chain(until_the_end.enter_context(compose.server()))


app = typer.Typer(
    name="overnight",
    cls=ErrorGroup,
    help="Pays bond holders exactly once, and refreshes research data every night.",
    epilog=_EPILOG,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
demo.add_to(app)
worker.add_to(app)
verify.add_to(app)
app.add_typer(bonds.app, name="bonds")
app.add_typer(maturity.app, name="maturity")
app.add_typer(payouts.app, name="payouts")
app.add_typer(wallet.app, name="wallet")
app.add_typer(nightly.app, name="nightly")
app.add_typer(companies.app, name="companies")
app.add_typer(metrics.app, name="metrics")
app.add_typer(schedule.app, name="schedule")
app.add_typer(jobs.app, name="jobs")
app.add_typer(mockchain.build(_chain), name="mockchain")


def main() -> None:
    """The console script."""
    app()


if __name__ == "__main__":
    main()
