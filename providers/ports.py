"""The outside world as this process sees it, handed in once by its composition root.

settings → composition root → use_ports / use_policy → use cases and actors
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from domain.budgets import Budget
from providers.chain import Chain, Signer
from providers.identity import IdentityRegistry
from providers.market import DocumentProvider, FxProvider, MarketDataProvider


@dataclass(frozen=True)
class Ports:
    """Everything outside that a payout touches. Each port must be safe to use from any thread."""

    chain: Chain
    registry: IdentityRegistry
    signer: Signer


@dataclass(frozen=True)
class MarketPorts:
    """Who is asked for research data, the first tier first. Each must be safe from any thread."""

    market: Sequence[MarketDataProvider]
    documents: Sequence[DocumentProvider]
    fx: Sequence[FxProvider]
    budgets: Mapping[str, Budget] = field(default_factory=dict)  # by provider; absent: no limit
    #: Waits for a moment, in seconds, between two requests of a second's budget.
    pause: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class PayoutPolicy:
    """How payouts are worked here: sizes, caps and bounds, and whose wallet this is."""

    environment_id: str  # a wallet is bound to it on first use
    page_legs: int = 500
    legs_per_transaction: int = 100
    fee_cap_units: int = 1_000  # per item of a transaction, in the chain's own coin
    max_unsettled_nonces: int = 64
    rebroadcast_after_s: float = 5.0
    orphan_after_s: float = 5.0  # an intent this old lost its worker: the settlement loop signs it
    straggler_after_s: float = 60.0  # an operation this old no longer holds up its page
    replace_after_s: float = (
        60.0  # the next nonce is stuck after this long: a higher fee is offered
    )
    fee_limit_units: int | None = None  # per item, after every replacement; None: 4 * fee_cap_units
    four_eyes_above: Decimal | None = None  # tokens: larger runs need a second person

    @property
    def fee_reserve_units(self) -> int:
        """The most that one item of a transaction may cost: what is reserved for it."""
        limit = 4 * self.fee_cap_units if self.fee_limit_units is None else self.fee_limit_units
        return max(limit, self.fee_cap_units)


_ports: Ports | None = None
_policy: PayoutPolicy | None = None
_market_ports: MarketPorts | None = None


def use_ports(value: Ports) -> None:
    """Set the ports of this process; a test sets them again for its next case."""
    global _ports
    _ports = value


def use_policy(value: PayoutPolicy) -> None:
    """Set the payout policy of this process."""
    global _policy
    _policy = value


def use_market_ports(value: MarketPorts) -> None:
    """Set the providers of research data; a test sets them again for its next case."""
    global _market_ports
    _market_ports = value


def ports() -> Ports:
    """The ports of this process. Raises RuntimeError when its composition root set none."""
    if _ports is None:
        raise RuntimeError("no ports: the composition root must call use_ports first")
    return _ports


def policy() -> PayoutPolicy:
    """The payout policy. Raises RuntimeError when the composition root set none."""
    if _policy is None:
        raise RuntimeError("no payout policy: the composition root must call use_policy first")
    return _policy


def market_ports() -> MarketPorts:
    """The providers of research data. Raises RuntimeError when the composition root set none."""
    if _market_ports is None:
        raise RuntimeError("no market ports: the composition root must call use_market_ports")
    return _market_ports
