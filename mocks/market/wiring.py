"""The mock ports of one golden copy: two tiers of market data, documents and rates.

    folder, delay, faults → mock-primary, mock-secondary, mock-documents, mock-fx

The second tier has what the first has, and what is in `second_tier/` of the folder.
"""

from collections.abc import Mapping
from pathlib import Path

from domain.budgets import Budget
from domain.errors import InvalidInput
from mocks.market.documents import MockDocuments
from mocks.market.faults import Faults, read_rules
from mocks.market.folder import GOLDEN
from mocks.market.fx import MockFx
from mocks.market.prices_and_statements import MockMarketData
from providers.ports import MarketPorts

SECOND_TIER = "second_tier"


def mock_market_ports(
    folder: Path | None = None,
    *,
    delay_ms: int = 0,
    faults: str = "",
    budgets: Mapping[str, Budget] | None = None,
) -> MarketPorts:
    """Ports over a golden copy (None: the project's own). `faults`: MOCK_FAULTS, as JSON.

    Raises InvalidInput for a folder that is not there and for rules that cannot be read.
    """
    folder = GOLDEN if folder is None else folder
    if not folder.is_dir():
        raise InvalidInput(f"MOCK_DATA_PATH: no folder {folder}: see docs/providers.md for one")
    rules = read_rules(faults)
    second = folder / SECOND_TIER

    def scripted() -> Faults:
        return Faults(rules, folder)

    return MarketPorts(
        market=(
            MockMarketData(folder, name="mock-primary", delay_ms=delay_ms, faults=scripted()),
            MockMarketData(
                second, folder, name="mock-secondary", delay_ms=delay_ms, faults=scripted()
            ),
        ),
        documents=(MockDocuments(folder, delay_ms=delay_ms, faults=scripted()),),
        fx=(MockFx(folder, delay_ms=delay_ms, faults=scripted()),),
        budgets=dict(budgets or {}),
    )
