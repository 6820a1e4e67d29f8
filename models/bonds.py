"""Bonds and who held them: as the imported file said, never changed by a payout."""

from peewee import (
    BigIntegerField,
    BooleanField,
    CompositeKey,
    DateField,
    DateTimeField,
    DecimalField,
    IntegerField,
    TextField,
)

from models.database import BaseModel


class Bond(BaseModel):
    """One issued bond. `file_digest` names the version of the file that it was imported from."""

    id = TextField(primary_key=True)
    name = TextField()
    contract = TextField()
    token = TextField()
    token_decimals = IntegerField()
    face_value_per_token = DecimalField()
    maturity_date = DateField()
    file_digest = TextField()
    imported_at = DateTimeField()


class BondInvestor(BaseModel):
    """One holder. `whitelisted` is what the file said; the identity registry decides."""

    bond_id = TextField()
    address = TextField()
    name = TextField()
    email = TextField()
    whitelisted = BooleanField()

    class Meta:
        """Keyed by bond and address."""

        primary_key = CompositeKey("bond_id", "address")


class BondHolding(BaseModel):
    """How many tokens of one id (= day minted) a holder has."""

    bond_id = TextField()
    address = TextField()
    token_id = BigIntegerField()
    balance = DecimalField(max_digits=78, decimal_places=0)

    class Meta:
        """Keyed by bond, address and token id."""

        primary_key = CompositeKey("bond_id", "address", "token_id")
