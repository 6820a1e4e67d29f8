"""Bring the mock chain up to a bond's register: what `--seed-mock-chain` and the demo do."""

from dataclasses import dataclass

from domain.bond_file import BondFile
from mocks.chain import MockChain


@dataclass(frozen=True)
class Seeded:
    """What was added to the mock chain."""

    holdings: int
    tokens: int
    verified: int


def seed_mock_chain(chain: MockChain, file: BondFile) -> Seeded:
    """Mint what holders lack, put the whitelisted on the registry and take the others off it.

    A second call adds nothing. Never for a bond that was triggered: it would mint what was burned.
    """
    there = chain.holdings(file.terms.contract)
    missing = [
        (who.address, token_id, balance - there.get((who.address, token_id), 0))
        for who in file.investors
        for token_id, balance in who.holdings
        if balance > there.get((who.address, token_id), 0)
    ]
    if missing:
        chain.mint(file.terms.contract, missing)
    whitelisted = [who.address for who in file.investors if who.whitelisted]
    chain.verify(whitelisted)
    chain.unverify([who.address for who in file.investors if not who.whitelisted])
    chain.finalize()
    return Seeded(len(missing), sum(units for _, _, units in missing), len(whitelisted))
