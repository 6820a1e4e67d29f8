"""What every provider of market data, documents and rates must do: one suite for all of them.

The mock reads the golden copy from its folder; the real clients read it from a local HTTP server.
A new provider is one more entry in `MARKET`, `DOCUMENTS` or `RATES`.
"""

from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest

from mocks.market import GOLDEN, MockDocuments, MockFx, MockMarketData
from mocks.market.faults import Faults
from mocks.market.folder import FolderTransport
from providers.alpha_vantage import AlphaVantage, Endpoint
from providers.alpha_vantage.http import HttpTransport
from providers.ecb_client import EcbRates
from providers.http import HttpFetcher
from providers.http_documents import SecDocuments
from providers.market import (
    DocumentProvider,
    FailureClass,
    FxProvider,
    MarketDataProvider,
    ProviderFailure,
)

KEY = "SECRETKEY12345"
CONTACT = "Overnight tests tests@example.com"
HTTP = frozenset({"http"})


def fetcher_of(pages: Any) -> HttpFetcher:
    """A client that may ask the local server, and nobody else."""
    return HttpFetcher(CONTACT, frozenset({pages.host}), schemes=HTTP)


def alpha_vantage_over_http(pages: Any) -> AlphaVantage:
    files = FolderTransport([GOLDEN], "server", delay_ms=0, faults=Faults())

    def answer(query: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        assert query["apikey"] == KEY
        return 200, {}, files.read(Endpoint(query["function"]), query.get("symbol"))

    pages.routes["/query"] = answer
    return AlphaVantage(HttpTransport(fetcher_of(pages), KEY, query=pages.url("/query")))


def sec_over_http(pages: Any) -> SecDocuments:
    documents = GOLDEN / "AAPL" / "documents"
    pages.routes["/CIK0000320193.json"] = 200, {}, (documents / "submissions.json").read_bytes()
    return SecDocuments(fetcher_of(pages), submissions=pages.url("/CIK{cik:0>10}.json"))


def ecb_over_http(pages: Any) -> EcbRates:
    for name in ("daily", "hist"):
        body = (GOLDEN / "fx" / f"eurofxref-{name}.xml").read_bytes()
        pages.routes[f"/{name}.xml"] = 200, {}, body
    daily, recent = pages.url("/daily.xml"), pages.url("/hist.xml")
    return EcbRates(fetcher_of(pages), daily=daily, recent=recent)


MARKET: dict[str, Callable[[Any], MarketDataProvider]] = {
    "mock": lambda pages: MockMarketData(),
    "alpha-vantage": alpha_vantage_over_http,
}
DOCUMENTS: dict[str, Callable[[Any], DocumentProvider]] = {
    "mock": lambda pages: MockDocuments(),
    "sec": sec_over_http,
}
RATES: dict[str, Callable[[Any], FxProvider]] = {
    "mock": lambda pages: MockFx(),
    "ecb": ecb_over_http,
}

UNKNOWN = "NOSUCHSYMBOL"


@pytest.fixture(params=MARKET)
def market(request: pytest.FixtureRequest, pages: Any) -> MarketDataProvider:
    return MARKET[request.param](pages)


@pytest.fixture(params=DOCUMENTS)
def documents(request: pytest.FixtureRequest, pages: Any) -> DocumentProvider:
    return DOCUMENTS[request.param](pages)


@pytest.fixture(params=RATES)
def fx(request: pytest.FixtureRequest, pages: Any) -> FxProvider:
    return RATES[request.param](pages)


def test_the_overview_says_who_it_is(market: MarketDataProvider) -> None:
    apple = market.company_overview("AAPL")
    assert (apple.symbol, apple.exchange, apple.currency) == ("AAPL", "NASDAQ", "USD")
    assert apple.cik == "320193"  # digits, without leading zeros
    assert apple.shares_outstanding == Decimal(15_115_800_000)
    assert apple.latest_quarter == date(2024, 9, 28)


@pytest.mark.parametrize(
    ("method", "line", "newest"),
    [
        ("income_statement", "totalRevenue", 94_930_000_000),
        ("balance_sheet", "longTermDebt", 85_750_000_000),
        ("cash_flow", "capitalExpenditures", 2_908_000_000),
    ],
)
def test_statements_are_newest_first_with_every_line(
    market: MarketDataProvider, method: str, line: str, newest: int
) -> None:
    periods = getattr(market, method)("AAPL")
    ends = [period.period_end_date for period in periods]
    assert ends == sorted(ends, reverse=True)
    quarters = [period for period in periods if period.period_type == "quarter"]
    assert {period.period_type for period in periods} == {"quarter", "annual"}
    assert len(quarters) == 20
    assert quarters[0].lines[line] == Decimal(newest)
    assert None in quarters[0].lines.values() or method == "balance_sheet"
    assert {period.currency for period in periods} == {"USD"}


def test_a_period_is_unique_per_type(market: MarketDataProvider) -> None:
    keys = [(p.period_type, p.period_end_date) for p in market.income_statement("AAPL")]
    assert len(keys) == len(set(keys))


def test_earnings_are_as_reported_at_the_time(market: MarketDataProvider) -> None:
    by_end = {report.period_end_date: report for report in market.earnings("AAPL")}
    assert by_end[date(2020, 6, 27)].reported_eps == Decimal("2.58")  # before the split by four
    assert by_end[date(2024, 9, 28)].reported_date == date(2024, 10, 31)


def test_prices_are_oldest_first_and_raw(market: MarketDataProvider) -> None:
    history = market.daily_prices("AAPL", None)
    days = [bar.session_date for bar in history.bars]
    assert days == sorted(set(days))
    assert history.bars[-1].close == Decimal("229.8700")
    assert isinstance(history.bars[-1].volume, int)


def test_prices_begin_where_they_are_asked_to(market: MarketDataProvider) -> None:
    since = date(2024, 11, 18)
    history = market.daily_prices("AAPL", since)
    assert [bar.session_date for bar in history.bars] == [since + timedelta(n) for n in range(5)]
    assert history.actions == []
    nothing_newer = market.daily_prices("AAPL", date(2024, 11, 23))
    assert nothing_newer.bars == []


def test_splits_and_dividends_stand_among_the_prices(market: MarketDataProvider) -> None:
    [split] = market.daily_prices("SPLT", None).actions
    assert (split.kind, split.effective_date, split.value) == (
        "split",
        date(2024, 7, 15),
        Decimal(3),
    )
    paid = market.daily_prices("AAPL", None).actions
    assert [(a.kind, a.value) for a in paid] == [
        ("dividend", Decimal("0.2400")),
        *[("dividend", Decimal("0.2500"))] * 3,
    ]


def test_one_call_of_a_full_calendar_has_every_symbol(market: MarketDataProvider) -> None:
    assert market.has_full_calendar
    everybody = market.earnings_calendar(None)
    days = [each.report_date for each in everybody]
    assert days == sorted(days)
    assert {each.symbol for each in everybody} >= {"AAPL", "MSFT", "JANX"}
    apples = market.earnings_calendar("AAPL")
    assert {each.symbol for each in apples} == {"AAPL"}
    assert apples[0].report_date == date(2025, 1, 30)


METHODS = ["company_overview", "income_statement", "balance_sheet", "cash_flow", "earnings"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("symbol", [UNKNOWN, "../AAPL", "", "A" * 500])
def test_an_unknown_symbol_is_not_found(
    market: MarketDataProvider, method: str, symbol: str
) -> None:
    with pytest.raises(ProviderFailure) as caught:
        getattr(market, method)(symbol)
    assert caught.value.failure_class is FailureClass.NOT_FOUND
    assert caught.value.provider == market.name
    assert len(str(caught.value)) < 400


def test_a_symbol_without_a_date_is_empty_not_an_empty_list(market: MarketDataProvider) -> None:
    with pytest.raises(ProviderFailure) as caught:
        market.earnings_calendar("IPOX")
    assert caught.value.failure_class is FailureClass.EMPTY


def test_documents_have_a_unique_key_and_a_date(documents: DocumentProvider) -> None:
    refs = documents.documents("AAPL", "320193")
    filings = [ref for ref in refs if ref.kind == "filing"]
    assert [(ref.form, ref.filed_on) for ref in filings] == [
        ("10-K", date(2024, 11, 1)),
        ("8-K", date(2024, 10, 31)),
    ]
    assert len({(ref.kind, ref.key) for ref in refs}) == len(refs)


def test_documents_of_an_unknown_company_are_not_found(documents: DocumentProvider) -> None:
    with pytest.raises(ProviderFailure) as caught:
        documents.documents(UNKNOWN, "42")
    assert caught.value.failure_class is FailureClass.NOT_FOUND


def test_rates_are_of_the_newest_day_or_since_one(fx: FxProvider) -> None:
    newest = fx.rates(None)
    assert {rate.rate_date for rate in newest} == {date(2024, 11, 22)}
    assert {rate.base for rate in newest} == {"EUR"}
    assert {rate.quote for rate in newest} >= {"USD", "INR"}
    since = fx.rates(date(2024, 11, 18))
    assert len({rate.rate_date for rate in since}) == 5
    assert all(isinstance(rate.rate, Decimal) and rate.rate > 0 for rate in since)
