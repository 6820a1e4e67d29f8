"""What the chain knows, read in one statement each, for one item or for ten thousand.

A balance is the newest canonical entry at or below the height: the entries carry it.
"""

from collections.abc import Collection, Sequence

from psycopg2.extensions import cursor as Cursor  # noqa: N812 - a class, badly named

from mocks.chain.execution import Account
from providers.chain import Effect, Receipt, TxKind

# Above every height that a chain of 100 ms blocks reaches.
ANY_HEIGHT = 2**31 - 1

_BALANCES = """
SELECT a.asset, a.address, l.balance_units
FROM unnest(%s::text[], %s::text[]) AS a (asset, address)
CROSS JOIN LATERAL (
    SELECT balance_units FROM ledger l
    WHERE l.canonical AND l.asset = a.asset AND l.address = a.address AND l.height <= %s
    ORDER BY l.height DESC, l.position DESC LIMIT 1
) l"""

_RECEIPTS = """
SELECT tx_hash, height, block_hash, succeeded, revert_reason, failed_item
FROM tx JOIN block ON block.id = tx.block_id
WHERE tx_hash = ANY(%s) AND status = 'mined'"""

_EFFECTS = """
SELECT ref, kind, min(address), sum(abs(delta_units)), tx_hash, height FROM ledger
WHERE canonical AND ref IS NOT NULL AND kind = %s AND height <= %s {}
GROUP BY ref, kind, tx_hash, height ORDER BY height, min(position)"""


def load_balances(
    cursor: Cursor, accounts: Collection[Account], height: int = ANY_HEIGHT
) -> dict[Account, int]:
    """Balances after block `height`; accounts without any entry are absent."""
    assets = [asset for asset, _ in accounts]
    cursor.execute(_BALANCES, (assets, [address for _, address in accounts], height))
    return {(asset, address): int(units) for asset, address, units in cursor}


def load_refs(cursor: Cursor, refs: Collection[tuple[TxKind, str]]) -> set[tuple[str, str]]:
    """Those (kind, ref) that a canonical block has used."""
    cursor.execute(
        "SELECT DISTINCT kind, ref FROM ledger WHERE canonical AND ref = ANY(%s)",
        ([ref for _, ref in refs],),
    )
    return {(kind, ref) for kind, ref in cursor}


def load_verified(cursor: Cursor, addresses: Collection[str]) -> set[str]:
    """Those of `addresses` that the registry holds."""
    cursor.execute("SELECT address FROM identity WHERE address = ANY(%s)", (list(addresses),))
    return {address for (address,) in cursor}


def load_receipts(cursor: Cursor, tx_hashes: Sequence[str]) -> dict[str, Receipt]:
    """Receipts of the mined ones."""
    cursor.execute(_RECEIPTS, (list(tx_hashes),))
    return {row[0]: Receipt(*row) for row in cursor}


def load_effects(
    cursor: Cursor, kind: TxKind, height: int = ANY_HEIGHT, refs: Sequence[str] | None = None
) -> list[Effect]:
    """What refs did in blocks up to `height`, in the chain's order; `refs` None is all of them."""
    if refs is None:
        cursor.execute(_EFFECTS.format(""), (kind.value, height))
    else:
        cursor.execute(_EFFECTS.format("AND ref = ANY(%s)"), (kind.value, height, list(refs)))
    return [
        Effect(ref, TxKind(name), address, int(units), tx_hash, at)
        for ref, name, address, units, tx_hash, at in cursor
    ]


def load_totals(cursor: Cursor, height: int = ANY_HEIGHT) -> dict[str, int]:
    """The supply of every asset after block `height`: what was granted, minus burns and fees."""
    cursor.execute(
        "SELECT asset, sum(delta_units) FROM ledger"
        " WHERE canonical AND height <= %s GROUP BY asset",
        (height,),
    )
    return {asset: int(units) for asset, units in cursor}


def load_holdings(
    cursor: Cursor, asset_prefix: str, height: int = ANY_HEIGHT
) -> dict[Account, int]:
    """Every balance above zero of the assets whose name starts so."""
    cursor.execute(
        "SELECT asset, address, sum(delta_units) FROM ledger"
        " WHERE canonical AND height <= %s AND starts_with(asset, %s)"
        " GROUP BY asset, address HAVING sum(delta_units) > 0",
        (height, asset_prefix),
    )
    return {(asset, address): int(units) for asset, address, units in cursor}
