"""What a wallet has promised, and the bound of it that every page of a burn asks for first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.database import execute, fetch
from usecases.payouts.funds import Balances, at_most, fee_needs, lacking, promises

if TYPE_CHECKING:
    from tests.integration.payouts.conftest import Night


def test_the_bound_is_never_below_what_is_promised(night: Night) -> None:
    """Two runs at once, one holder held before the burn, one after it; at old and new heights."""
    addresses = night.bond(holders=6)
    night.bond(holders=3, bond_id="other")
    night.chain.unverify(addresses[:1])
    runs = [night.trigger(), night.trigger("other")]
    compared = 0
    for number in range(40):
        if number == 6:
            night.chain.unverify(addresses[1:2])
        for height in (0, night.chain.head().final_height):
            found = promises(1, "PLT", Balances(height, 0, 0))
            units, items = at_most(1, "PLT", height)
            assert items is not None
            assert units >= -found.units
            assert fee_needs(items) >= -found.coin_units
            compared += units > 0
        if {night.state(run_id) for run_id in runs} == {"finished"}:
            break
        night.turn()
    assert compared > 4
    night.check_paid_once(*runs)


def test_a_wallet_that_is_short_is_told_exactly(night: Night) -> None:
    """The bound says only that nothing is lacking; what is lacking follows from the legs."""
    night.bond(holders=3)
    run_id = night.trigger()
    night.until_legs(run_id, "burning")
    [(units, items)] = fetch("SELECT total_units, fee_items FROM payout_run")
    fees = fee_needs(int(items))
    enough = Balances(0, int(units), fees)
    assert lacking(1, "PLT", 6, enough) is None
    for short in (Balances(0, int(units) - 1, fees), Balances(0, int(units), fees - 1)):
        assert "top up the wallet first" in str(lacking(1, "PLT", 6, short))
    execute("UPDATE payout_run SET fee_items = NULL")  # planned by an older version
    assert at_most(1, "PLT", 0)[1] is None
    assert lacking(1, "PLT", 6, enough) is None
