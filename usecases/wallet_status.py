"""Our wallet at a glance: bound or not, halted or not, what it holds, promised and has open.

Reads only, except that nothing here binds a wallet: the first trigger does.
"""

from dataclasses import dataclass

from domain.payouts import as_tokens
from models.database import fetch
from providers.chain import Head
from providers.ports import policy, ports
from usecases.payouts.decisions import Decision, decisions_of
from usecases.payouts.funds import available, read_balances


@dataclass(frozen=True)
class TokenFunds:
    """One payment token of the wallet at the final block; amounts in tokens, as text."""

    token: str
    balance: str
    reserved: str
    available: str


@dataclass(frozen=True)
class WalletStatus:
    """The wallet that this process signs for."""

    address: str
    chain_id: str
    environment_id: str
    bound: bool  # False until the first trigger
    halted: str | None  # why; None when it may sign
    head: Head
    chain_nonce: int
    our_nonce: int | None
    open_operations: dict[str, int]  # by state
    tokens: tuple[TokenFunds, ...]
    coin_balance_units: int
    coin_available_units: int
    decisions: list[Decision]  # who halted, adopted, resolved, resumed


def wallet_status(payment_token: str, token_decimals: int) -> WalletStatus:
    """The wallet now. Tokens of its runs are added to `payment_token`. Raises ChainUnavailable."""
    chain, address = ports().chain, ports().signer.address
    chain_id, head = chain.chain_id(), chain.head()
    rows = fetch(
        "SELECT id, environment_id, next_nonce, halt_reason FROM wallet"
        " WHERE chain_id = %s AND address = %s",
        (chain_id, address),
    )
    wallet_id, environment_id, our_nonce, halted = rows[0] if rows else (None, None, None, None)
    decimals = {payment_token: token_decimals}
    decimals.update(
        fetch(
            "SELECT token, max(token_decimals) FROM ("
            " SELECT token, token_decimals FROM bond UNION"
            " SELECT token, token_decimals FROM payout_run) known GROUP BY token ORDER BY token"
        )
    )
    funds = []
    coin_balance = coin_free = chain.coin_balance(address, head.final_height)
    for token, places in decimals.items():
        balances = read_balances(address, token, head.final_height)
        free, coin_free = balances.token_units, balances.coin_units
        if wallet_id is not None:
            free, coin_free = available(wallet_id, token, balances)
        amounts = (balances.token_units, balances.token_units - free, free)
        funds.append(TokenFunds(token, *(_text(units, places) for units in amounts)))
    operations = fetch(
        "SELECT state, count(*) FROM chain_operation"
        " WHERE wallet_id = %s AND state NOT IN ('settled', 'void') GROUP BY state ORDER BY state",
        (wallet_id,),
    )
    return WalletStatus(
        address=address,
        chain_id=chain_id,
        environment_id=environment_id or policy().environment_id,
        bound=bool(rows),
        halted=halted,
        head=head,
        chain_nonce=chain.next_nonce(address),
        our_nonce=our_nonce,
        open_operations=dict(operations),
        tokens=tuple(funds),
        coin_balance_units=coin_balance,
        coin_available_units=coin_free,
        decisions=[] if wallet_id is None else decisions_of(wallet_id=wallet_id),
    )


def _text(units: int, decimals: int) -> str:
    sign = "-" if units < 0 else ""
    return f"{sign}{as_tokens(abs(units), decimals):f}"
