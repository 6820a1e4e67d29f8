"""A witness at the ports: was a payment's holder asked for since his burn, and was the burn final?

registry.verified → noted ┐
signer.sign(burn) → noted ├→ signer.sign(transfer) → rules that it broke, in words
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from providers.chain import SignedTransaction, TxKind, UnsignedTransaction
from providers.ports import Ports, ports, use_ports
from verify.rules import Query

#: Payments whose burn is not in a block that is final now.
_UNBURNED = """
SELECT l.address FROM payout_leg l WHERE l.transfer_ref = ANY(%s) AND NOT EXISTS (
    SELECT FROM ledger b WHERE b.canonical AND b.kind = 'burn' AND b.ref = l.burn_ref
    AND b.height <= (SELECT max(height) FROM block)
                    - (SELECT finality_depth FROM chain))
"""


@dataclass
class Witness:
    """What it saw, in order. Wraps the ports of this schedule."""

    query: Query
    unasked: list[str] = field(default_factory=list)
    unburned: list[str] = field(default_factory=list)
    _ticks: Iterable[int] = field(default_factory=count)
    _verified: dict[str, int] = field(default_factory=dict)  # address: when it was last found
    _burned: dict[str, int] = field(default_factory=dict)  # address: when its burn was first signed
    _burns: set[str] = field(default_factory=set)  # refs

    @classmethod
    def of_ports(cls, query: Query) -> "Witness":
        """Stand in front of the ports that are in use."""
        witness, found = cls(query), ports()
        use_ports(Ports(found.chain, _Registry(found.registry, witness),
                        _Signer(found.signer, witness)))  # fmt: skip
        return witness

    def found(self, addresses: Iterable[str]) -> None:
        """The registry answered: they are verified."""
        now = self._now()
        self._verified.update(dict.fromkeys(addresses, now))

    def signed(self, transaction: UnsignedTransaction) -> None:
        """A transaction has a signature now."""
        now = self._now()
        if transaction.kind is TxKind.TRANSFER:
            refs = [item.ref for item in transaction.items]
            for (address,) in self.query(_UNBURNED, (refs,)):
                _tell(self.unburned, f"a payment was signed before its burn was final: {address}")
        for item in transaction.items:
            if transaction.kind is TxKind.BURN:
                if item.ref not in self._burns:  # whoever signs it again changes nothing
                    self._burns.add(item.ref)
                    self._burned[item.address] = now
            elif self._verified.get(item.address, -1) <= self._burned.get(item.address, -1):
                _tell(
                    self.unasked,
                    f"nobody asked for {item.address} between its burn and its payment",
                )

    def _now(self) -> int:
        return next(iter(self._ticks))


class _Registry:
    """Implements `providers.identity.IdentityRegistry`."""

    def __init__(self, registry: Any, witness: Witness) -> None:
        self._registry, self._witness = registry, witness

    def verified(self, addresses: Iterable[str]) -> Any:
        """The registry's answer, noted."""
        answer = self._registry.verified(addresses)
        self._witness.found(answer)
        return answer


class _Signer:
    """Implements `providers.chain.Signer`."""

    def __init__(self, signer: Any, witness: Witness) -> None:
        self._signer, self._witness = signer, witness

    @property
    def address(self) -> str:
        """The wallet."""
        return str(self._signer.address)

    def sign(self, transaction: UnsignedTransaction) -> SignedTransaction:
        """The signature, noted."""
        signed: SignedTransaction = self._signer.sign(transaction)
        self._witness.signed(transaction)
        return signed


def _tell(broken: list[str], what: str) -> None:
    if what not in broken:
        broken.append(what)
