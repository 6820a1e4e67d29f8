"""Who is paid what, exactly: amounts, references on chain, digests and the hash of a plan.

    positions → planned legs (sorted by address) → plan hash → (approved) → frozen legs

Amounts are integers of the token's smallest unit. Nothing here rounds: an amount that is no whole
number of units is an error.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction
from json.encoder import encode_basestring_ascii as quote
from uuid import UUID

from domain.errors import InvalidInput

#: The largest amount that a chain's 256-bit integers and our NUMERIC(78, 0) columns can hold.
MAX_UNITS = 2**256 - 1

#: What a holder has of each token id, in ascending order of token id.
Holdings = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Position:
    """A holder's balance of one token id."""

    address: str
    token_id: int
    balance: int


@dataclass(frozen=True)
class PlannedLeg:
    """One holder's redemption: what is burned, and the units that are paid for it."""

    address: str
    units: int
    holdings: Holdings


@dataclass(frozen=True)
class PlanTerms:
    """What a plan is about, apart from its legs."""

    kind: str
    subject: str
    config_version: str
    record_date: date
    chain_id: str
    wallet_address: str
    token: str


def plan_redemption(
    positions: Iterable[Position], face_value_per_token: Decimal, token_decimals: int
) -> list[PlannedLeg]:
    """One leg per address: Σ balance * face value * 10^decimals (METRICS, "maturity").

    Sorted by address; empty positions are left out.

    Raises:
        InvalidInput: an amount is no whole number of units, or too large; names the holder.
    """
    held: dict[str, list[tuple[int, int]]] = {}
    for position in positions:
        if position.balance > 0:
            held.setdefault(position.address, []).append((position.token_id, position.balance))
    token_units = Fraction(face_value_per_token) * 10**token_decimals
    times, parts = token_units.numerator, token_units.denominator
    legs = []
    for address, holdings in sorted(held.items()):
        units, rest = divmod(sum(balance for _, balance in holdings) * times, parts)
        if rest:
            raise InvalidInput(
                f"holder {address}: {units + Fraction(rest, parts)} is no whole number of units; "
                f"correct the balance or face_value_per_token ({face_value_per_token}) and import "
                "again"
            )
        if not 0 < units <= MAX_UNITS:
            raise InvalidInput(f"holder {address}: {units} units cannot be paid")
        legs.append(PlannedLeg(address, units, tuple(sorted(holdings))))
    return legs


def plan_hash(terms: PlanTerms, legs: Iterable[PlannedLeg]) -> str:
    """SHA-256 over the terms and every leg's address, units and holdings; never over a status."""
    return stored_plan_hash(
        terms, ((leg.address, leg.units, holdings_text(leg.holdings)) for leg in legs)
    )


def stored_plan_hash(terms: PlanTerms, rows: Iterable[tuple[str, int, str]]) -> str:
    """`plan_hash` of legs as (address, units, their holdings' text), in the plan's order."""
    fields = (
        terms.kind,
        terms.subject,
        terms.config_version,
        terms.record_date.isoformat(),
        terms.chain_id,
        terms.wallet_address,
        terms.token,
    )
    legs = ",".join([f'[{quote(address)},"{units}",{text}]' for address, units, text in rows])
    return _sha256(f"[{_quoted(fields)},[{legs}]]")


def leg_ref(chain_id: str, environment_id: str, run_id: str, address: str, phase: str) -> str:
    """What a leg is called on chain, once per phase: a second use of the same ref reverts.

    The run's id, then 128 bits of SHA-256: a database that has lost a run still learns its id.
    """
    fields = (chain_id, environment_id, run_id, address, phase)
    return UUID(run_id).hex + _sha256(f"[{_quoted(fields)}]")[:32]


def run_of_ref(ref: str) -> str:
    """The id of the run that a ref belongs to."""
    return str(UUID(ref[:32]))


def is_leg_ref(ref: str, chain_id: str, environment_id: str, address: str, phase: str) -> bool:
    """Whether some run of this environment has this ref for this address and phase."""
    try:
        return leg_ref(chain_id, environment_id, run_of_ref(ref), address, phase) == ref
    except ValueError:
        return False


def leg_digest(run_id: str, leg: PlannedLeg, burn_ref: str, transfer_ref: str) -> str:
    """Of everything that is paid by a leg; compared again at every signing."""
    return _sha256(
        f'[{quote(run_id)},{quote(leg.address)},"{leg.units}",{holdings_text(leg.holdings)},'
        f"{quote(burn_ref)},{quote(transfer_ref)}]"
    )


def holdings_text(holdings: Holdings) -> str:
    """Holdings as they are hashed and stored: the JSON of `holdings_as_json`, without spaces."""
    return "[" + ",".join([f'[{token_id},"{balance}"]' for token_id, balance in holdings]) + "]"


def stored_holdings_text(text: str) -> str:
    """The same from the text that PostgreSQL gives for them."""
    return text.replace(", ", ",")


def holdings_as_json(holdings: Holdings) -> list[list[int | str]]:
    """As stored with a leg: balances as text, because JSON readers round large numbers."""
    return [[token_id, str(balance)] for token_id, balance in holdings]


def holdings_from_json(stored: Iterable[Sequence[int | str]]) -> Holdings:
    """The inverse of `holdings_as_json`."""
    return tuple((int(token_id), int(balance)) for token_id, balance in stored)


def as_tokens(units: int, decimals: int) -> Decimal:
    """Units as an amount of tokens, exactly, with all its decimals."""
    return Decimal((0, tuple(int(digit) for digit in str(units)), -decimals))


def amount_text(units: int, decimals: int) -> str:
    """Units as tokens, for people: never in exponent form, negative for a debt."""
    return f"{'-' if units < 0 else ''}{as_tokens(abs(units), decimals):f}"


def _quoted(fields: Iterable[str]) -> str:
    return ",".join(map(quote, fields))


def _sha256(text: str) -> str:
    """Of a JSON array's text, as json.dumps writes it without spaces and in ASCII."""
    return hashlib.sha256(text.encode()).hexdigest()
