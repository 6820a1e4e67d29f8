"""Scripted faults of the mocks: which call is struck, and that it fails as the real one would."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from domain.errors import InvalidInput
from mocks.market import Fault, FaultRule, Faults, MockDocuments, MockFx, MockMarketData
from mocks.market.faults import FAULTS_FILE, read_rules
from mocks.market.folder import MOCK_KEY
from mocks.market.generate import generate
from providers.market import FailureClass, ProviderFailure

CLASSES = {
    Fault.QUOTA: FailureClass.QUOTA_EXHAUSTED,
    Fault.QUOTA_KEY_ECHO: FailureClass.QUOTA_EXHAUSTED,
    Fault.BURST: FailureClass.BURST,
    Fault.STATUS_429: FailureClass.BURST,
    Fault.STATUS_500: FailureClass.OUTAGE,
    Fault.TIMEOUT: FailureClass.OUTAGE,
    Fault.MALFORMED: FailureClass.MALFORMED,
    Fault.EMPTY: FailureClass.EMPTY,
    Fault.NOT_ENTITLED: FailureClass.NOT_ENTITLED,
    Fault.NOT_FOUND: FailureClass.NOT_FOUND,
    Fault.AUTH: FailureClass.AUTH,
}
QUESTIONS = [
    "income_statement",
    "balance_sheet",
    "cash_flow",
    "earnings",
    "earnings_calendar",
    "daily_prices",
]


def struck(provider: MockMarketData, symbol: str = "AAPL") -> FailureClass | None:
    """How a question fails; None when it is answered."""
    try:
        provider.income_statement(symbol)
    except ProviderFailure as failure:
        return failure.failure_class
    return None


def mock(*rules: FaultRule) -> MockMarketData:
    return MockMarketData(faults=Faults(rules))


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("fault", Fault)
def test_each_fault_fails_in_its_class(fault: Fault, question: str) -> None:
    provider = mock(FaultRule(fault))
    arguments = ("AAPL", None) if question == "daily_prices" else ("AAPL",)
    with pytest.raises(ProviderFailure) as caught:
        getattr(provider, question)(*arguments)
    assert caught.value.failure_class is CLASSES[fault]
    assert MOCK_KEY not in str(caught.value)


@pytest.mark.parametrize("fault", Fault)
def test_each_fault_strikes_documents_and_rates_too(fault: Fault) -> None:
    rules = [FaultRule(fault)]
    with pytest.raises(ProviderFailure) as listed:
        MockDocuments(faults=Faults(rules)).documents("AAPL", None)
    with pytest.raises(ProviderFailure) as rated:
        MockFx(faults=Faults(rules)).rates(None)
    if fault is not Fault.EMPTY:  # an empty list, or a page without rates
        assert listed.value.failure_class is CLASSES[fault]
        assert rated.value.failure_class is CLASSES[fault]


def test_a_rule_strikes_only_what_it_names() -> None:
    rule = FaultRule(Fault.QUOTA, "mock-primary", "INCOME_STATEMENT", "AAPL")
    assert struck(mock(rule)) is FailureClass.QUOTA_EXHAUSTED
    assert struck(mock(rule), "MSFT") is None
    assert mock(rule).balance_sheet("AAPL")
    other = MockMarketData(name="mock-secondary", faults=Faults([rule]))
    assert struck(other) is None


def test_the_nth_call_and_so_many_times() -> None:
    third = mock(FaultRule(Fault.BURST, nth=3))
    assert [struck(third) is not None for _ in range(5)] == [False, False, True, False, False]
    twice = mock(FaultRule(Fault.BURST, times=2))
    assert [struck(twice) is not None for _ in range(4)] == [True, True, False, False]


def test_a_rate_is_drawn_from_its_seed_in_any_order_of_threads() -> None:
    symbols = ["AAPL", "MSFT", "RSTD", "GAPQ", "LOSS"] * 20
    rule = FaultRule(Fault.TIMEOUT, rate=0.3, seed=7)
    alone = mock(rule)
    expected = sum(struck(alone, symbol) is not None for symbol in symbols)
    assert 15 < expected < 45
    shared = mock(rule)
    with ThreadPoolExecutor(8) as pool:
        found = sum(failed is not None for failed in pool.map(lambda s: struck(shared, s), symbols))
    assert found == expected
    other = mock(FaultRule(Fault.TIMEOUT, rate=0.3, seed=8))
    assert [struck(other, s) for s in symbols] != [struck(mock(rule), s) for s in symbols]


def test_a_file_in_the_folder_is_read_again_when_it_changes(tmp_path: Path) -> None:
    [symbol] = generate(tmp_path, 1)
    provider, file = MockMarketData(tmp_path), tmp_path / FAULTS_FILE
    assert struck(provider, symbol) is None
    file.write_text(json.dumps([{"fault": "quota"}]))
    assert struck(provider, symbol) is FailureClass.QUOTA_EXHAUSTED
    file.unlink()
    file.write_text(json.dumps([{"fault": "500", "symbol": symbol}]))
    assert struck(provider, symbol) is FailureClass.OUTAGE
    file.unlink()
    assert struck(provider, symbol) is None


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{", "not JSON"),
        ("{}", "expected a list"),
        ('["quota"]', "each rule is an object of fault, provider"),
        ('[{"fault": "quota", "day": 1}]', "each rule is an object"),
        ('[{"fault": "explode"}]', "fault is one of quota"),
        ("[{}]", "fault is one of quota"),
        ('[{"fault": "quota", "nth": 0}]', "nth is a whole number from 1"),
        ('[{"fault": "quota", "rate": 2}]', "rate is between 0 and 1"),
    ],
)
def test_wrong_rules_are_named(text: str, named: str) -> None:
    with pytest.raises(InvalidInput, match=f"MOCK_FAULTS: {named}"):
        read_rules(text)
