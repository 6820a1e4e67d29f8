"""A runnable stand-in for market data, documents and exchange rates, over a golden-copy folder.

    MOCK_DATA_PATH → bytes of its files, or a scripted fault → the real clients' readers

Never loaded in production. See docs/providers.md for the folder and the faults.
"""

from mocks.market.documents import MockDocuments
from mocks.market.faults import Fault, FaultRule, Faults
from mocks.market.folder import GOLDEN, sample_symbols
from mocks.market.fx import MockFx
from mocks.market.prices_and_statements import MockMarketData
from mocks.market.restate import restate
from mocks.market.wiring import mock_market_ports

__all__ = [
    "GOLDEN",
    "Fault",
    "FaultRule",
    "Faults",
    "MockDocuments",
    "MockFx",
    "MockMarketData",
    "mock_market_ports",
    "restate",
    "sample_symbols",
]
