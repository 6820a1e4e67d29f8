"""The project's golden copy, the generator, and the wiring that never loads them in production."""

import shutil
import subprocess
import sys
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest

from actors.market_wiring import build_market_ports
from domain.budgets import Budget
from domain.errors import InvalidInput, NotFound
from domain.trading_days import is_session
from mocks.market import GOLDEN, MockMarketData, mock_market_ports, restate, sample_symbols
from mocks.market.generate import generate
from mocks.market.samples import write_samples
from providers.market import FailureClass, ProviderFailure, StatementPeriod
from settings import Settings


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def quarters(symbol: str, folder: Path = GOLDEN) -> list[StatementPeriod]:
    """Income statements of quarters, oldest first."""
    periods = MockMarketData(folder).income_statement(symbol)
    return [period for period in reversed(periods) if period.period_type == "quarter"]


def weeks(symbol: str) -> list[int]:
    """The lengths of a company's quarters, from the second on."""
    ends = [period.period_end_date for period in quarters(symbol)]
    return [(after - before).days // 7 for before, after in pairwise(ends)]


def test_the_golden_copy_is_what_its_program_writes(tmp_path: Path) -> None:
    """`python -m mocks.market.samples` was run after the last change to it."""
    write_samples(tmp_path)
    written, kept = tree(tmp_path), tree(GOLDEN)
    kept.pop("README.md")
    assert sorted(written) == sorted(kept)
    assert [name for name in written if written[name] != kept[name]] == []


def test_it_says_that_it_is_sample_data_and_names_every_company() -> None:
    page = (GOLDEN / "README.md").read_text()
    assert "sample data" in page
    for symbol in [*sample_symbols(), *sample_symbols(GOLDEN / "second_tier")]:
        assert f"| {symbol} |" in page


def test_the_traps_are_in_it() -> None:
    assert weeks("AAPL").count(14) == 1
    assert weeks("JANX").count(14) == 1
    assert {p.period_end_date.month for p in quarters("JANX")} >= {1, 5, 8, 10}
    gap = [p.period_end_date for p in quarters("GAPQ")]
    assert max((b - a).days for a, b in pairwise(gap)) > 180
    assert {p.currency for p in quarters("XCUR")} == {"JPY"}
    market = MockMarketData()
    textiles = market.company_overview("DHARA.NSE")
    assert (textiles.currency, textiles.exchange) == ("INR", "NSE")
    assert all(
        is_session("NSE", b.session_date) for b in market.daily_prices("DHARA.NSE", None).bars
    )
    assert all(p.lines["capitalExpenditures"] is None for p in market.cash_flow("LOSS")[:5])
    assert Decimal(0) in {p.lines["totalRevenue"] for p in quarters("LOSS")}
    with pytest.raises(ProviderFailure):
        market.balance_sheet("IPOX")


def test_the_split_is_in_prices_shares_and_earnings() -> None:
    market = MockMarketData()
    history = market.daily_prices("SPLT", None)
    [split] = history.actions
    at = [bar.session_date for bar in history.bars].index(split.effective_date)
    before, after = history.bars[at - 1], history.bars[at]
    assert before.adjusted_close is not None
    assert before.close / before.adjusted_close == pytest.approx(split.value)
    assert after.close == after.adjusted_close
    assert Decimal("0.25") < after.close / before.close < Decimal("0.42")


def test_a_restatement_changes_one_quarter_of_a_copy(tmp_path: Path) -> None:
    folder = tmp_path / "golden"
    shutil.copytree(GOLDEN, folder)
    first = quarters("RSTD", folder)
    assert "income_statement.json" in restate(folder, "RSTD")
    second = quarters("RSTD", folder)
    changed = [a.period_end_date for a, b in zip(first, second, strict=True) if a != b]
    assert len(changed) == 1
    with pytest.raises(NotFound, match="restated"):
        restate(folder, "AAPL")
    with pytest.raises(ValueError, match="restate a copy"):
        restate(GOLDEN, "RSTD")


def test_a_generated_copy_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    symbols = generate(tmp_path / "a", 3, seed=5)
    generate(tmp_path / "b", 5, seed=5)
    generate(tmp_path / "c", 3, seed=6)
    a, b, c = (tree(tmp_path / name) for name in "abc")
    companies = [name for name in a if name.startswith(tuple(symbols))]
    assert len(companies) == 3 * 6
    assert all(a[name] == b[name] for name in companies)
    assert all(a[name] != c[name] for name in companies if "overview" not in name)


def test_a_generated_company_has_what_a_night_needs(tmp_path: Path) -> None:
    [symbol] = generate(tmp_path, 1)
    ports = mock_market_ports(tmp_path)
    assert len(quarters(symbol, tmp_path)) == 20
    assert len(ports.market[0].daily_prices(symbol, None).bars) >= 260
    assert ports.market[0].earnings_calendar(symbol)
    assert ports.market[0].company_overview(symbol).shares_outstanding
    assert ports.fx[0].rates(None)


def test_a_bare_folder_fails_cleanly(tmp_path: Path) -> None:
    """As a golden copy without a calendar, documents and rates does."""
    [symbol] = generate(tmp_path, 1)
    (tmp_path / "earnings_calendar.csv").unlink()
    shutil.rmtree(tmp_path / "fx")
    ports = mock_market_ports(tmp_path)
    failures = []
    for ask in (
        lambda: ports.market[0].earnings_calendar(None),
        lambda: ports.documents[0].documents(symbol, None),
        lambda: ports.fx[0].rates(None),
    ):
        with pytest.raises(ProviderFailure) as caught:
            ask()
        failures.append(caught.value.failure_class)
    assert failures == [FailureClass.EMPTY, FailureClass.NOT_FOUND, FailureClass.NOT_FOUND]


def test_events_and_shares_in_files_of_their_own(tmp_path: Path) -> None:
    home = tmp_path / "AAPL"
    shutil.copytree(GOLDEN / "AAPL", home)
    (home / "time_series_daily_adjusted.json").unlink()  # raw prices are left
    (home / "splits.csv").write_text("effective_date,split_factor\n2024-06-10,10.0\n")
    (home / "dividends.csv").write_text("ex_dividend_date,amount\n2024-06-11,0.01\n")
    overview = (home / "overview.json").read_text().replace("15115800000", "None")
    (home / "overview.json").write_text(overview)
    (home / "shares_outstanding.csv").write_text("date,shares_outstanding_basic\n2024-09-30,7\n")
    market = MockMarketData(tmp_path)
    history = market.daily_prices("AAPL", None)
    assert [action.kind for action in history.actions] == ["split", "dividend"]
    assert {bar.adjusted_close for bar in history.bars} == {None}
    assert market.company_overview("AAPL").shares_outstanding == 7
    (home / "splits.csv").write_text("effective_date,split_factor\nsoon,10\n")
    with pytest.raises(ProviderFailure, match=r"MALFORMED: SPLITS AAPL: row 0\.effective_date"):
        market.daily_prices("AAPL", None)


def test_development_has_two_tiers_over_the_golden_copy() -> None:
    budgets = '{"mock-primary": {"per_day": 25, "zone": "America/New_York"}}'
    settings = Settings(environment="development", provider_budgets=budgets)
    ports = build_market_ports(settings)
    assert [tier.name for tier in ports.market] == ["mock-primary", "mock-secondary"]
    assert ports.budgets == {"mock-primary": Budget(per_day=25, zone="America/New_York")}


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"mock_data_path": "/nowhere/at/all"}, "MOCK_DATA_PATH: no folder /nowhere/at/all"),
        ({"mock_faults": "["}, "MOCK_FAULTS: not JSON"),
    ],
)
def test_a_bad_setting_is_named(given: dict[str, str], named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        build_market_ports(Settings(**given))  # type: ignore[arg-type] # as the environment has it


@pytest.mark.parametrize(
    ("budgets", "named"),
    [
        ('{"a": {"per_day": 0}}', "a: budget: per_day"),
        ('{"a": {"zone": "Mars"}}', "a: budget: zone"),
        ('{"a": {"per_week": 1}}', "per_week"),
        ("{", "not JSON"),
    ],
)
def test_a_bad_budget_is_named(budgets: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Settings(provider_budgets=budgets)


def test_production_refuses_without_real_providers_and_never_loads_a_mock(project: Path) -> None:
    program = """
import sys
from actors.market_wiring import build_market_ports
from domain.errors import InvalidInput
from settings import Settings
for given in ({}, {"contact": "A b@c"}, {"alpha_vantage_key": "k"}):
    try:
        build_market_ports(Settings(environment="production", **given))
    except InvalidInput as error:
        print(error)
ports = build_market_ports(
    Settings(environment="production", contact="A b@c", alpha_vantage_key="k"))
print([p.name for p in (*ports.market, *ports.documents, *ports.fx)])
print([name for name in sys.modules if name.startswith("mocks")])
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True)
    *refusals, real, mocks = done.stdout.splitlines()
    assert len(refusals) == 3
    assert all("docs/providers.md" in refusal for refusal in refusals)
    assert "ALPHA_VANTAGE_KEY and CONTACT not set" in refusals[0]
    assert (real, mocks) == ("['alpha-vantage', 'sec', 'ecb']", "[]")
