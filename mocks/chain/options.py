"""How the mock chain behaves: stored in its database, so that all processes agree."""

from dataclasses import dataclass
from typing import TypedDict


@dataclass(frozen=True)
class ChainOptions:
    """Every option and its default."""

    chain_id: str = "mock-1"
    block_interval_ms: int = 100
    finality_depth: int = 3
    auto_mine: bool = True  # False: blocks come from mine(n) only
    max_block_transactions: int = 50
    fee_per_item_units: int = 10  # raise it above a transaction's cap, and that one is stuck
    enforce_identity: bool = False  # True: transfers to addresses not verified revert
    max_pending_per_sender: int = 256
    seed: int = 0  # of the faults' draws


class OptionChanges(TypedDict, total=False):
    """Any of the options, by keyword."""

    chain_id: str
    block_interval_ms: int
    finality_depth: int
    auto_mine: bool
    max_block_transactions: int
    fee_per_item_units: int
    enforce_identity: bool
    max_pending_per_sender: int
    seed: int
