"""Wallets, payout runs and the rows that their money moves by. States: docs/payouts.md.

Lock order: job → run → wallet. Legs and operations change only under their wallet's row lock,
so two transactions never wait for each other's legs.
"""

from typing import Self

from peewee import (
    BigIntegerField,
    DateField,
    DateTimeField,
    DecimalField,
    DoesNotExist,
    IntegerField,
    TextField,
    UUIDField,
)

from domain.errors import NotFound
from models.database import BaseModel


class Wallet(BaseModel):
    """The address that pays, bound for ever to one chain and one environment."""

    id = IntegerField(primary_key=True)
    chain_id = TextField()
    address = TextField()
    environment_id = TextField()
    next_nonce = BigIntegerField()
    final_height = BigIntegerField()
    final_hash = TextField(null=True)
    halted_at = DateTimeField(null=True)
    halt_reason = TextField(null=True)
    created_at = DateTimeField()

    @classmethod
    def lock(cls, wallet_id: int) -> Self:
        """Lock the wallet until the transaction ends, and return it as it is now."""
        return cls.get_by_id(wallet_id, "FOR UPDATE")


class PayoutRun(BaseModel):
    """One payout: planning → waiting → paying → finished, or failed before any operation."""

    id = UUIDField(primary_key=True)
    sequence = BigIntegerField()
    kind = TextField()
    subject = TextField()
    bond_id = TextField()
    wallet_id = IntegerField()
    state = TextField()
    config_version = TextField()
    record_date = DateField()
    token = TextField()
    token_decimals = IntegerField()
    plan_hash = TextField(null=True)
    leg_count = IntegerField(null=True)
    total_units = DecimalField(78, 0, null=True)
    triggered_by = TextField()
    triggered_at = DateTimeField()
    planned_at = DateTimeField(null=True)
    approved_by = TextField(null=True)
    approved_hash = TextField(null=True)
    approved_at = DateTimeField(null=True)
    reserved_at = DateTimeField(null=True)
    note = TextField(null=True)
    finished_at = DateTimeField(null=True)
    reconciled_at = DateTimeField(null=True)
    reconciled_height = BigIntegerField(null=True)

    @classmethod
    def load(cls, run_id: str) -> Self:
        """The run. Raises NotFound."""
        try:
            return cls.get_by_id(run_id)
        except DoesNotExist:
            raise NotFound(f"no payout run {run_id}: `overnight payouts list` shows them") from None

    @classmethod
    def lock(cls, run_id: str) -> Self:
        """Lock the run until the transaction ends, and return it as it is now."""
        return cls.get_by_id(run_id, "FOR UPDATE")

    @classmethod
    def hold(cls, run_id: str) -> Self:
        """Keep the run as it is until the transaction ends; its other pages may do the same."""
        return cls.get_by_id(run_id, "FOR SHARE")

    @property
    def correlation(self) -> str:
        """What all jobs of this run have in common."""
        return f"run:{self.id}"
