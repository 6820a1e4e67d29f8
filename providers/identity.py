"""The identity registry: who is whitelisted to hold and to be paid."""

from collections.abc import Sequence
from typing import Protocol

from domain.errors import Outage


class RegistryUnavailable(Outage):
    """The registry did not answer: nobody is known to be verified, and nobody known not to be."""


class IdentityRegistry(Protocol):
    """Maps to ERC-3643's isVerified, in batches."""

    def verified(self, addresses: Sequence[str]) -> set[str]:
        """Those of `addresses` that are whitelisted now. Raises RegistryUnavailable."""
