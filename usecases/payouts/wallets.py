"""The wallet: bound on first use, looked at before every signing, halted when the chain disagrees.

    look (outside) → lock and judge (inside) → sign | halted, with evidence, until a person decides

A halted wallet signs nothing new. What was signed before is still settled and sent again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from domain.errors import Postponed, Rejected
from domain.job_types import Service
from domain.payouts import is_leg_ref
from jobs.failure import alert
from models.database import execute, fetch, transaction
from models.payouts import Wallet
from providers.chain import Chain, Head, KnownTransaction
from providers.ports import policy, ports

#: A wallet that is halted, or not ours, needs a person: look again at this pace.
HALTED_DELAY = timedelta(seconds=15)
#: Operations that are not at their end, or debts.
_UNDER_WAY = """
SELECT 1 FROM chain_operation
WHERE wallet_id = %(wallet)s AND state NOT IN ('settled', 'void')
UNION ALL
SELECT 1 FROM payout_leg l JOIN payout_run r ON r.id = l.run_id
WHERE r.wallet_id = %(wallet)s AND l.state = 'burned' LIMIT 1
"""
#: So many transactions are named in the reason of a halt.
EVIDENCE = 5
#: A node that lags behind what we saw final usually catches up within a few blocks.
LAGGING_DELAY = timedelta(seconds=1)


@dataclass(frozen=True)
class Sight:
    """What the node said about a wallet, read outside of any transaction."""

    head: Head
    next_nonce: int  # the first that is not mined
    expected: tuple[int, str] | None  # our checkpoint: a block that was final when we settled
    found_hash: str | None  # what the chain has at the checkpoint's height
    ahead: tuple[KnownTransaction, ...] = ()  # mined or pending at nonces that we did not give out

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
        ahead = [known for known in self.ahead if known.transaction.nonce >= wallet.next_nonce]
        if self.next_nonce > wallet.next_nonce or ahead:
            return (
                f"chain nonce is {self.next_nonce}, ours is {wallet.next_nonce}: somebody else "
                "signs with this key, or this database was restored from an older backup"
                f" ({evidence(ahead)})"
            )
        return None


def evidence(transactions: Sequence[KnownTransaction]) -> str:
    """Nonces and hashes of transactions, for people; the first few of many."""
    shown = [
        f"nonce {known.transaction.nonce} {known.tx_hash} "
        + (f"in block {known.receipt.height}" if known.receipt else "pending")
        for known in transactions[:EVIDENCE]
    ]
    if len(transactions) > EVIDENCE:
        shown.append(f"and {len(transactions) - EVIDENCE} more")
    return ", ".join(shown) or "the node shows no transaction"


def look(wallet: Wallet, chain: Chain | None = None) -> Sight:
    """Ask the node about a wallet. Must be called outside of a transaction."""
    chain = chain or ports().chain
    expected = (wallet.final_height, wallet.final_hash) if wallet.final_hash else None
    head = chain.head()
    found = chain.block_hash(wallet.final_height) if expected else None
    next_nonce = chain.next_nonce(wallet.address)
    ahead = chain.transactions_of(wallet.address, wallet.next_nonce)
    return Sight(head, next_nonce, expected, found, tuple(ahead))


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
    """Stop signing with a wallet until a person decides, in the open transaction.

    One that is halted already keeps its reason.
    """
    halted = execute(
        "UPDATE wallet SET halted_at = overnight_now(), halt_reason = %s"
        " WHERE id = %s AND halted_at IS NULL",
        (reason, wallet_id),
    )
    if halted:
        alert(Service.MATURITY, f"wallet {wallet_id}", f"signing is halted: {reason}")


def say_once(subject: str, message: str) -> None:
    """An alert, unless there was one of this subject before, in the open transaction."""
    if not fetch("SELECT 1 FROM alert WHERE subject = %s LIMIT 1", (subject,)):
        alert(Service.MATURITY, subject, message)


def postpone_if_halted(wallet: Wallet) -> None:
    """Raises Postponed for a halted wallet. Call it after the halt was committed."""
    if wallet.halted_at is not None:
        raise halted(wallet)


def halted(wallet: Wallet) -> Postponed:
    """What a job of a halted wallet raises."""
    return Postponed(f"wallet {wallet.address} is halted: {wallet.halt_reason}", HALTED_DELAY)


def bind_wallet() -> Wallet:
    """The wallet that this process signs for, bound to chain and environment on first use.

    Raises:
        Rejected: another environment in this database uses the same wallet; it is halted now.
    """
    chain, address = ports().chain, ports().signer.address
    chain_id, environment_id = chain.chain_id(), policy().environment_id
    bound = Wallet.get_or_none(Wallet.chain_id == chain_id, Wallet.address == address)
    next_nonce = bound.next_nonce if bound else _first_nonce(chain_id, address)
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


def _first_nonce(chain_id: str, address: str) -> int:
    """Where a wallet that this database has never seen begins: what it signed before is history.

    Unless this very environment signed it: then the database is older than its own payouts, and
    the wallet begins where those did, is halted at once, and adopts them.
    """
    environment_id = policy().environment_id
    for known in ports().chain.transactions_of(address):
        tx = known.transaction
        if any(
            is_leg_ref(item.ref, chain_id, environment_id, item.address, tx.kind.value)
            for item in tx.items
        ):
            return tx.nonce
    return ports().chain.next_nonce(address)


def our_wallets() -> list[int]:
    """The wallets that this process settles: bound to its chain, key and environment.

    Money that is under way for another environment is nobody's then: somebody is told.
    """
    rows = fetch(
        "SELECT id, environment_id FROM wallet WHERE chain_id = %s AND address = %s",
        (ports().chain.chain_id(), ports().signer.address),
    )
    ours = policy().environment_id
    for wallet_id, environment_id in rows:
        if environment_id != ours and fetch(_UNDER_WAY, {"wallet": wallet_id}):
            with transaction():
                Wallet.lock(wallet_id)
                say_once(
                    f"wallet {wallet_id} environment {ours}",
                    f"its payouts under way belong to environment {environment_id!r}, and this "
                    f"worker is {ours!r}: nobody settles them until ENVIRONMENT_ID is corrected",
                )
    return [int(wallet_id) for wallet_id, environment_id in rows if environment_id == ours]
