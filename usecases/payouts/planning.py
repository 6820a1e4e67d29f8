"""Plan a redemption: the same code for the preview and for the run that is frozen.

    bond + positions → legs → hash → (preview | frozen legs, approved by their hash)

Legs never change after they are frozen; the database refuses it.
"""

from dataclasses import dataclass

from domain.errors import NotFound, Rejected
from domain.ids import new_ids
from domain.payouts import (
    PlannedLeg,
    PlanTerms,
    Position,
    holdings_text,
    leg_digest,
    leg_ref,
    plan_hash,
    plan_redemption,
)
from models.bonds import Bond
from models.bulk import copy_rows
from models.database import execute, fetch
from models.payouts import PayoutRun, Wallet
from usecases.payouts.approval import settle_approval
from usecases.payouts.funds import fee_items
from usecases.payouts.pages import plan_pages

KIND = "maturity"

_LEG_COLUMNS = (
    "id", "run_id", "page_id", "address", "units", "holdings", "digest", "burn_ref", "transfer_ref",
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """Who would be paid what, and the hash that an approval binds to."""

    bond: Bond
    terms: PlanTerms
    legs: list[PlannedLeg]
    hash: str

    @property
    def total_units(self) -> int:
        """What all legs need together."""
        return sum(leg.units for leg in self.legs)


def find_bond(bond_id: str) -> Bond:
    """The bond. Raises NotFound."""
    bond = Bond.get_or_none(Bond.id == bond_id)
    if bond is None:
        raise NotFound(f"no bond {bond_id!r}: `overnight bonds list` shows them")
    return bond


def plan_maturity(bond_id: str, chain_id: str, wallet_address: str) -> Plan:
    """The plan for a bond as it is imported now; the record date is its maturity date.

    Raises:
        NotFound: no such bond.
        InvalidInput: a holder's amount is no whole number of units.
    """
    bond = find_bond(bond_id)
    rows = fetch(
        "SELECT address, token_id, balance FROM bond_holding WHERE bond_id = %s", (bond_id,)
    )
    legs = plan_redemption(
        (Position(address, token_id, int(balance)) for address, token_id, balance in rows),
        bond.face_value_per_token,
        bond.token_decimals,
    )
    terms = PlanTerms(
        kind=KIND,
        subject=bond.id,
        config_version=bond.file_digest,
        record_date=bond.maturity_date,
        chain_id=chain_id,
        wallet_address=wallet_address,
        token=bond.token,
    )
    return Plan(bond, terms, legs, plan_hash(terms, legs))


def plan_run(run_id: str) -> Plan:
    """The plan of a triggered run. Raises as `plan_maturity`."""
    run = PayoutRun.load(run_id)
    wallet = Wallet.get_by_id(run.wallet_id)
    return plan_maturity(run.bond_id, wallet.chain_id, wallet.address)


def freeze(run_id: str, plan: Plan) -> None:
    """Store the plan, and approve it by its hash or wait for a second person, in the transaction.

    Where policy asks no second person, whoever triggered the run approves it.

    Raises:
        Rejected: the bond was imported anew since it was triggered or planned, or has no holders.
    """
    run = PayoutRun.lock(run_id)
    if run.plan_hash is not None or run.state != "planning":
        return  # an earlier delivery planned it
    [(digest,)] = fetch("SELECT file_digest FROM bond WHERE id = %s FOR SHARE", (run.bond_id,))
    if not digest == run.config_version == plan.terms.config_version:
        raise Rejected(f"bond {run.bond_id} was imported anew after the trigger: trigger it again")
    if not plan.legs:
        raise Rejected(f"bond {run.bond_id} has no holders")
    wallet = Wallet.get_by_id(run.wallet_id)
    ids, pages = new_ids(len(plan.legs)), plan_pages(run_id, len(plan.legs))
    legs = zip(ids, pages, plan.legs, strict=True)
    rows = (_row(leg_id, page_id, run_id, wallet, leg) for leg_id, page_id, leg in legs)
    copy_rows("payout_leg", _LEG_COLUMNS, rows)
    execute(
        """
        UPDATE payout_run
        SET state = 'approval', note = 'waits for approval', plan_hash = %(hash)s,
            leg_count = %(count)s, total_units = %(total)s, fee_items = %(items)s,
            planned_at = overnight_now()
        WHERE id = %(run)s
        """,
        {
            "run": run_id,
            "hash": plan.hash,
            "count": len(plan.legs),
            "total": plan.total_units,
            "items": sum(fee_items(leg.holdings) for leg in plan.legs),
        },
    )
    settle_approval(run_id)


def _row(
    leg_id: str, page_id: str, run_id: str, wallet: Wallet, leg: PlannedLeg
) -> tuple[object, ...]:
    place = (wallet.chain_id, wallet.environment_id, run_id, leg.address)
    burn_ref, transfer_ref = leg_ref(*place, "burn"), leg_ref(*place, "transfer")
    return (
        leg_id, run_id, page_id, leg.address, leg.units, holdings_text(leg.holdings),
        leg_digest(run_id, leg, burn_ref, transfer_ref), burn_ref, transfer_ref,
    )  # fmt: skip
