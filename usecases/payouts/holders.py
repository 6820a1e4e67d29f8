"""What the world says about the holders of a page, read before anything is signed for them.

waiting legs → registry: verified? → chain (before a burn): still their tokens? → findings
"""

from collections.abc import Sequence
from dataclasses import dataclass

from domain.payouts import Holdings
from providers.chain import TxItem, TxKind
from providers.ports import ports

NOT_WHITELISTED = "not whitelisted"
BALANCE_CHANGED = "balance changed"


@dataclass(frozen=True)
class WaitingLeg:
    """A leg as its row says."""

    id: str
    address: str
    units: int
    holdings: Holdings
    digest: str
    burn_ref: str
    transfer_ref: str

    def items(self, kind: TxKind) -> tuple[TxItem, ...]:
        """What it adds to a transaction."""
        if kind is TxKind.TRANSFER:
            return (TxItem(self.transfer_ref, self.address, self.units),)
        return tuple(TxItem(self.burn_ref, self.address, n, token) for token, n in self.holdings)


@dataclass(frozen=True)
class Findings:
    """What the world said about the legs of a page: who is verified, whose balance fell."""

    known: frozenset[str]  # the addresses that were asked about
    verified: frozenset[str]
    changed: frozenset[str]

    def reason_to_hold(self, address: str) -> str | None:
        """Why this holder cannot be worked now; None if nothing is in the way."""
        if address not in self.verified:
            return NOT_WHITELISTED
        return BALANCE_CHANGED if address in self.changed else None


def look_at_holders(
    legs: Sequence[WaitingLeg], kind: TxKind, contract: str, height: int
) -> Findings:
    """Ask registry and chain about the holders. Outside of a transaction."""
    addresses = frozenset(leg.address for leg in legs)
    if not legs:
        return Findings(addresses, addresses, frozenset())
    verified = frozenset(ports().registry.verified(sorted(addresses)))
    if kind is TxKind.TRANSFER:
        return Findings(addresses, verified, frozenset())
    positions = [(leg.address, token_id) for leg in legs for token_id, _ in leg.holdings]
    balances = ports().chain.bond_balances(contract, positions, height)
    changed = frozenset(
        leg.address
        for leg in legs
        if any(balances[leg.address, token_id] < planned for token_id, planned in leg.holdings)
    )
    return Findings(addresses, verified, changed)
