"""The identity registry of the mock chain: a table in the chain's database.

Who is on it is decided with MockChain.verify and unverify; it fails on the fault registry_down.
"""

from collections.abc import Sequence

from mocks.chain.database import Database
from mocks.chain.faults import REGISTRY_OP, FaultKind, meet
from mocks.chain.ledger import load_verified
from providers.identity import RegistryUnavailable


class MockRegistry:
    """Implements `providers.identity.IdentityRegistry`; `url` is the mock chain's."""

    def __init__(self, url: str) -> None:
        self._database = Database(url, RegistryUnavailable)

    def close(self) -> None:
        """Close the connections. The object can be used again."""
        self._database.close()

    def verified(self, addresses: Sequence[str]) -> set[str]:
        """Those of `addresses` that are whitelisted now. Raises RegistryUnavailable."""
        with self._database.session() as cursor:
            if meet(cursor, REGISTRY_OP).keys() - {FaultKind.LATENCY}:
                raise RegistryUnavailable("verified: no answer from the registry")
            return load_verified(cursor, addresses)
