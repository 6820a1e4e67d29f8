"""The wallet: bound on first use, looked at before every signing, halted when the chain disagrees.

    look (outside) → lock and judge (inside) → sign | halted, with evidence, until a person decides

A halted wallet signs nothing new. What was signed before is still settled and sent again.
"""

from dataclasses import dataclass
from datetime import timedelta

from domain.errors import Postponed, Rejected
from domain.job_types import Service
from jobs.failure import alert
from models.database import execute, fetch, transaction
from models.payouts import Wallet
from providers.chain import Head
from providers.ports import policy, ports

#: A wallet that is halted, or not ours, needs a person: look again at this pace.
HALTED_DELAY = timedelta(seconds=15)
#: A node that lags behind what we saw final usually catches up within a few blocks.
LAGGING_DELAY = timedelta(seconds=1)


@dataclass(frozen=True)
class Sight:
    """What the node said about a wallet, read outside of any transaction."""

    head: Head
    next_nonce: int  # the first that is not mined
    expected: tuple[int, str] | None  # our checkpoint: a block that was final when we settled
    found_hash: str | None  # what the chain has at the checkpoint's height

    @property
    def is_behind(self) -> bool:
        """The node has not seen all that we saw final: its answers say nothing new."""
        if self.expected is None:
            return False
        return self.found_hash is None or self.head.final_height < self.expected[0]

    @property
    def checkpoint_is_gone(self) -> bool:
        """A block that was final when we settled is another one now."""
        if self.expected is None or self.found_hash is None:
            return False
        return self.found_hash != self.expected[1]

    def problem_with(self, wallet: Wallet) -> str | None:
        """Why `wallet` must not sign, if the chain or the environment contradicts what we know."""
        if wallet.environment_id != policy().environment_id:
            return (
                f"wallet {wallet.address} on {wallet.chain_id} belongs to environment "
                f"{wallet.environment_id!r}, but {policy().environment_id!r} used it"
            )
        if self.expected is not None and self.checkpoint_is_gone:
            return (
                f"reorganisation deeper than finality: block {self.expected[0]} was final as "
                f"{self.expected[1]}, and is {self.found_hash} now"
            )
        if self.next_nonce > wallet.next_nonce:
            return (
                f"chain nonce is {self.next_nonce}, ours is {wallet.next_nonce}: somebody else "
                "signs with this key, or this database was restored from an older backup"
            )
        return None


def look(wallet: Wallet) -> Sight:
    """Ask the node about a wallet. Must be called outside of a transaction."""
    chain = ports().chain
    expected = (wallet.final_height, wallet.final_hash) if wallet.final_hash else None
    head = chain.head()
    found = chain.block_hash(wallet.final_height) if expected else None
    return Sight(head, chain.next_nonce(wallet.address), expected, found)


def look_to_sign(wallet: Wallet) -> Sight:
    """The same, before planning to sign.

    Raises:
        Postponed: this process has another key or chain, or its node is behind.
    """
    if wallet.address != ports().signer.address or wallet.chain_id != ports().chain.chain_id():
        raise Postponed(
            f"wallet {wallet.address} on {wallet.chain_id} is not the one this worker signs for",
            HALTED_DELAY,
        )
    sight = look(wallet)
    if sight.is_behind:
        raise Postponed("the node is behind the last block that was final", LAGGING_DELAY)
    return sight


def lock_and_judge(wallet_id: int, sight: Sight) -> Wallet:
    """Lock the wallet, and halt it if `sight` contradicts it; the caller looks at `halted_at`."""
    wallet = Wallet.lock(wallet_id)
    problem = sight.problem_with(wallet)
    if problem is not None and wallet.halted_at is None:
        halt(wallet_id, problem)
        wallet = Wallet.lock(wallet_id)
    return wallet


def halt(wallet_id: int, reason: str) -> None:
    """Stop signing with a wallet until a person decides, in the open transaction."""
    execute(
        "UPDATE wallet SET halted_at = overnight_now(), halt_reason = %s"
        " WHERE id = %s AND halted_at IS NULL",
        (reason, wallet_id),
    )
    alert(Service.MATURITY, f"wallet {wallet_id}", f"signing is halted: {reason}")


def postpone_if_halted(wallet: Wallet) -> None:
    """Raises Postponed for a halted wallet. Call it after the halt was committed."""
    if wallet.halted_at is not None:
        raise Postponed(f"wallet {wallet.address} is halted: {wallet.halt_reason}", HALTED_DELAY)


def bind_wallet() -> Wallet:
    """The wallet that this process signs for, bound to chain and environment on first use.

    Raises:
        Rejected: another environment in this database uses the same wallet; it is halted now.
    """
    chain, address = ports().chain, ports().signer.address
    chain_id, next_nonce, environment_id = (
        chain.chain_id(), chain.next_nonce(address), policy().environment_id,
    )  # fmt: skip
    with transaction():
        execute(
            "INSERT INTO wallet (chain_id, address, environment_id, next_nonce)"
            " VALUES (%s, %s, %s, %s) ON CONFLICT (chain_id, address) DO NOTHING",
            (chain_id, address, environment_id, next_nonce),
        )
    wallet = Wallet.get(Wallet.chain_id == chain_id, Wallet.address == address)
    sight = look(wallet)
    with transaction():
        wallet = lock_and_judge(wallet.id, sight)
    if wallet.environment_id != environment_id:
        raise Rejected(f"{wallet.halt_reason}; nothing is signed until a person decides")
    return wallet


def our_wallets() -> list[int]:
    """The wallets that this process settles: bound to its chain, key and environment."""
    rows = fetch(
        "SELECT id FROM wallet WHERE chain_id = %s AND address = %s AND environment_id = %s",
        (ports().chain.chain_id(), ports().signer.address, policy().environment_id),
    )
    return [int(wallet_id) for (wallet_id,) in rows]
