"""The demo's bonds: DEMO-0001, DEMO-0002 … with holders made up from bond number and seed.

The same number, seed and size give the same file, so an interrupted import can be repeated.
"""

import hashlib
import json
import random
from datetime import date, timedelta

from eth_utils.address import to_checksum_address

PREFIX = "DEMO-"
EPOCH = date(1970, 1, 1)

#: About one holder in so many is not whitelisted, and so will be held.
NOT_WHITELISTED_ONE_IN = 33
MAX_HOLDINGS = 3
MAX_BALANCE = 40

_FIRST = (
    "Ada Amara Ana Arjun Astrid Beatriz Boris Chen Clara Daniel Elena Emeka Fatima Felix Greta "
    "Hana Hugo Ines Ivan Jamal Jana Kofi Lars Leila Lucia Marek Mei Mira Nadia Noah Olga Omar "
    "Priya Rafael Ravi Rosa Sami Sofia Tariq Tomas Uma Vera Wei Yara Yusuf Zoe"
)
_LAST = (
    "Abara Almeida Andersen Banerjee Berg Bianchi Castro Chowdhury Costa Dubois Eze Fischer "
    "Garcia Haddad Hansen Ito Ivanova Jensen Kaplan Khan Kim Kowalski Larsen Lopez Mensah Meyer "
    "Moreau Mwangi Nakamura Novak Okafor Olsen Park Patel Petrov Rossi Sato Schmidt Silva Singh "
    "Tanaka Torres Varga Weber Yilmaz Zhang"
)


def bond_id(number: int) -> str:
    """DEMO-0001 for 1."""
    return f"{PREFIX}{number:04}"


def bond_json(number: int, holders: int, seed: int, matured: date) -> str:
    """bond.json of a bond that matured on a given day."""
    draw = random.Random(f"{seed}:{number}")  # noqa: S311 - made up, and the same every time
    first_day = (matured - timedelta(days=5 * 365) - EPOCH).days
    investors = [_investor(number, place, seed, draw, first_day) for place in range(holders)]
    terms = {
        "id": bond_id(number),
        "name": f"Demonstration bond {number}",
        "contract": _address(seed, number, "contract"),
        "token": "PLT",
        "token_decimals": 6,
        "face_value_per_token": "100.00",
        "maturity_date": matured.isoformat(),
    }
    return json.dumps({"bond": terms, "investors": investors})


def _investor(
    number: int, place: int, seed: int, draw: random.Random, first_day: int
) -> dict[str, object]:
    first, last = draw.choice(_FIRST.split()), draw.choice(_LAST.split())
    days = sorted(draw.sample(range(first_day, first_day + 365), draw.randint(1, MAX_HOLDINGS)))
    return {
        "address": _address(seed, number, str(place)),
        "name": f"{first} {last}",
        "email": f"{first}.{last}.{place}@example.org".lower(),
        "whitelisted": draw.randrange(NOT_WHITELISTED_ONE_IN) != 0,
        "holdings": [
            {"token_id": day, "balance": str(draw.randint(1, MAX_BALANCE))} for day in days
        ],
    }


def _address(seed: int, number: int, what: str) -> str:
    digest = hashlib.sha256(f"overnight demo {seed}:{number}:{what}".encode()).hexdigest()
    return str(to_checksum_address("0x" + digest[-40:]))
