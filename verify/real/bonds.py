"""Bonds for a lane: generated holders, and what each of them must get, by arithmetic of its own."""

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eth_utils.address import to_checksum_address

#: 100.25 tokens of 6 decimals.
FACE_VALUE = "100.25"
FACE_UNITS = 100_250_000

#: One in so many holders is not whitelisted, and must be held.
UNLISTED_ONE_IN = 50


@dataclass(frozen=True)
class Wave:
    """A bond as its file says it. No holder is in two waves."""

    bond_id: str
    tokens: dict[str, int]  # bond tokens of each whitelisted holder
    unlisted: frozenset[str]
    file: dict[str, Any]

    @property
    def units(self) -> dict[str, int]:
        """What each whitelisted holder must be paid."""
        return {address: tokens * FACE_UNITS for address, tokens in self.tokens.items()}

    def write(self, folder: Path) -> Path:
        """The file for `overnight bonds import`."""
        path = folder / f"{self.bond_id}.json"
        path.write_text(json.dumps(self.file))
        return path


def make_wave(number: int, holders: int, seed: int) -> Wave:
    """A matured bond; every second one is so small that one person may trigger it."""
    dice = random.Random(f"wave {seed} {number}")  # noqa: S311 - replayable on purpose
    bond_id = f"REAL-{seed}-{number:04d}"
    largest = 500 if number % 2 == 0 else 20
    tokens: dict[str, int] = {}
    unlisted: set[str] = set()
    investors = []
    for index in range(holders):
        address = address_of(1 + number * 1_000_000 + index)
        holdings = [
            {"token_id": 20_000 + position, "balance": str(dice.randint(1, largest))}
            for position in range(dice.randint(1, 3))
        ]
        listed = dice.randrange(UNLISTED_ONE_IN) > 0
        if listed:
            tokens[address] = sum(int(str(holding["balance"])) for holding in holdings)
        else:
            unlisted.add(address)
        investors.append(
            {
                "address": address,
                "name": f"Holder {index} of {bond_id}",
                "email": f"holder{index}@example.com",
                "whitelisted": listed,
                "holdings": holdings,
            }
        )
    bond = {
        "id": bond_id,
        "name": f"Bond {number} of the real lane",
        "contract": address_of(2**100 + number),
        "token": "PLT",
        "token_decimals": 6,
        "face_value_per_token": FACE_VALUE,
        "maturity_date": "2026-01-31",
    }
    return Wave(bond_id, tokens, frozenset(unlisted), {"bond": bond, "investors": investors})


def address_of(number: int) -> str:
    """A checksummed address."""
    return str(to_checksum_address(f"0x{number:040x}"))
