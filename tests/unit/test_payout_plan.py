"""Who is paid what: exact amounts, stable hashes, and nothing that rounds."""

import hashlib
import json
from datetime import date
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import InvalidInput
from domain.payouts import (
    PlannedLeg,
    PlanTerms,
    Position,
    amount_text,
    as_tokens,
    holdings_as_json,
    holdings_from_json,
    holdings_text,
    is_leg_ref,
    leg_digest,
    leg_ref,
    plan_hash,
    plan_redemption,
    run_of_ref,
    stored_holdings_text,
)

TERMS = PlanTerms("maturity", "bond", "v1", date(2026, 1, 1), "mock-1", "0xWallet", "PLT")


def test_one_leg_per_holder_sorted_by_address() -> None:
    positions = [Position("b", 9, 3), Position("a", 5, 1), Position("b", 2, 4), Position("c", 1, 0)]
    assert plan_redemption(positions, Decimal("100.5"), 2) == [
        PlannedLeg("a", 10_050, ((5, 1),)),
        PlannedLeg("b", 70_350, ((2, 4), (9, 3))),
    ]


def test_halves_may_add_up_to_a_whole_unit() -> None:
    positions = [Position("a", 1, 1), Position("a", 2, 1)]
    assert plan_redemption(positions, Decimal("0.5"), 0)[0].units == 1
    with pytest.raises(InvalidInput, match="holder a: 1/2 is no whole number of units"):
        plan_redemption(positions[:1], Decimal("0.5"), 0)


def test_amounts_beyond_what_a_chain_can_hold() -> None:
    with pytest.raises(InvalidInput, match="cannot be paid"):
        plan_redemption([Position("a", 1, 2**200)], Decimal(2**60), 0)


@given(st.integers(1, 10**30), st.integers(0, 10**12), st.integers(0, 18))
def test_no_digit_is_lost(balance: int, face_units: int, decimals: int) -> None:
    face = Decimal((0, tuple(int(d) for d in str(face_units + 1)), -decimals))
    [leg] = plan_redemption([Position("a", 1, balance)], face, decimals)
    assert leg.units == balance * (face_units + 1)
    assert int(amount_text(leg.units, decimals).replace(".", "")) == leg.units
    assert as_tokens(leg.units, decimals) == Decimal(amount_text(leg.units, decimals))


def test_the_hash_covers_every_term_and_leg() -> None:
    leg = PlannedLeg("a", 5, ((1, 5),))
    changed_terms = [
        PlanTerms("yield", "bond", "v1", date(2026, 1, 1), "mock-1", "0xWallet", "PLT"),
        PlanTerms("maturity", "other", "v1", date(2026, 1, 1), "mock-1", "0xWallet", "PLT"),
        PlanTerms("maturity", "bond", "v2", date(2026, 1, 1), "mock-1", "0xWallet", "PLT"),
        PlanTerms("maturity", "bond", "v1", date(2026, 1, 2), "mock-1", "0xWallet", "PLT"),
        PlanTerms("maturity", "bond", "v1", date(2026, 1, 1), "mock-2", "0xWallet", "PLT"),
        PlanTerms("maturity", "bond", "v1", date(2026, 1, 1), "mock-1", "0xOther", "PLT"),
        PlanTerms("maturity", "bond", "v1", date(2026, 1, 1), "mock-1", "0xWallet", "EUR"),
    ]
    changed_legs = [
        PlannedLeg("b", 5, ((1, 5),)), PlannedLeg("a", 6, ((1, 5),)),
        PlannedLeg("a", 5, ((2, 5),)), PlannedLeg("a", 5, ((1, 6),)),
    ]  # fmt: skip
    hashes = {plan_hash(TERMS, [leg])}
    hashes |= {plan_hash(terms, [leg]) for terms in changed_terms}
    hashes |= {plan_hash(TERMS, [other]) for other in changed_legs}
    assert len(hashes) == 1 + len(changed_terms) + len(changed_legs)
    assert plan_hash(TERMS, [leg]) == plan_hash(TERMS, [leg])


def test_refs_and_digests_tell_everything_apart() -> None:
    r, s = str(UUID(int=1)), str(UUID(int=2))
    refs = {
        leg_ref("c", "e", r, "a", "burn"), leg_ref("c", "e", r, "a", "transfer"),
        leg_ref("c", "e", r, "b", "burn"), leg_ref("c", "e", s, "a", "burn"),
        leg_ref("c", "f", r, "a", "burn"), leg_ref("d", "e", r, "a", "burn"),
    }  # fmt: skip
    assert len(refs) == 6
    assert all(len(ref) == 64 for ref in refs)
    assert {run_of_ref(ref) for ref in refs} == {r, s}
    assert is_leg_ref(leg_ref("c", "e", r, "a", "burn"), "c", "e", "a", "burn")
    assert not is_leg_ref(leg_ref("c", "e", r, "a", "burn"), "c", "e", "a", "transfer")
    assert not is_leg_ref("no hex digits", "c", "e", "a", "burn")
    leg = PlannedLeg("a", 5, ((1, 5),))
    assert leg_digest("r", leg, "x", "y") != leg_digest("s", leg, "x", "y")
    assert leg_digest("r", leg, "x", "y") != leg_digest("r", leg, "y", "x")


def test_holdings_survive_json() -> None:
    holdings = ((1, 10**30), (2, 7))
    assert holdings_from_json(holdings_as_json(holdings)) == holdings


@pytest.mark.parametrize(
    ("units", "decimals", "text"),
    [(0, 6, "0.000000"), (1, 18, "0.000000000000000001"), (-1_500_000, 6, "-1.500000"),
     (7, 0, "7"), (10**40, 2, "1" + "0" * 38 + ".00")],
)  # fmt: skip
def test_amounts_for_people(units: int, decimals: int, text: str) -> None:
    assert amount_text(units, decimals) == text


@given(
    st.lists(st.tuples(st.integers(0, 2**63), st.integers(1, 2**256 - 1)), max_size=4),
    st.text(max_size=8),
    st.integers(1, 2**256 - 1),
)
def test_what_is_hashed_is_plain_json(
    holdings: list[tuple[int, int]], text: str, units: int
) -> None:
    """The texts are put together by hand: byte for byte what json.dumps would write."""
    leg = PlannedLeg(text, units, tuple(holdings))
    stored = holdings_as_json(leg.holdings)

    def sha256(fields: object) -> str:
        return hashlib.sha256(json.dumps(fields, separators=(",", ":")).encode()).hexdigest()

    run_id = "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
    assert leg_digest(run_id, leg, "x", text) == sha256(
        [run_id, text, str(units), stored, "x", text]
    )
    assert (
        leg_ref("c", text, run_id, text, "burn")[32:]
        == sha256(["c", text, run_id, text, "burn"])[:32]
    )
    terms = [str(value) for value in vars(TERMS).values()]
    assert plan_hash(TERMS, [leg]) == sha256([*terms, [[text, str(units), stored]]])
    assert stored_holdings_text(json.dumps(stored)) == holdings_text(leg.holdings)
