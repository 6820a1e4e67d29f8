"""A chain in a PostgreSQL database of its own, shared by every process that knows its URL.

schema → database (connections) → signing → mempool → execution → mining → ledger → node
"""

from mocks.chain.faults import FaultKind, FaultRule
from mocks.chain.node import MockChain
from mocks.chain.options import ChainOptions
from mocks.chain.signing import MockSigner, address_of
from mocks.chain.steering import ChainStatus

__all__ = [
    "ChainOptions",
    "ChainStatus",
    "FaultKind",
    "FaultRule",
    "MockChain",
    "MockSigner",
    "address_of",
]
