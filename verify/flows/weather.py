"""Weather: what the world of a payout does in some schedules more often than its people ever would.

    kinds of the dice → acts, as soon as there is something for them → one of them, nearly at once

Chaos strikes at any point; these wait for the moment that one rule is about.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from providers.chain import BroadcastRefused, SignedTransaction, TxKind
from verify.flow import Act, Stage
from verify.troubles import FINALITY_DEPTH

#: Fees rise under what was offered, and what was offered first is mined after its replacement.
STUCK = "stuck"
#: Blocks are replaced whose transactions were seen in them; the new ones have none of them.
SHAKY = "shaky"
#: Finality takes longer, and once all are burned a block has room for one payment: the legs of a
#: page are final one by one.
FULL = "full"
#: Holders are burned, and not verified any more.
PAPERS = "papers"
#: The first payment reverts; it has as many legs as there are.
REVERT = "revert"

#: How often each is what a schedule of one bond has.
RARITIES: Mapping[str, float] = {FULL: 0.15, PAPERS: 0.2, REVERT: 0.2, SHAKY: 0.2, STUCK: 0.2}

#: An act of the weather, beside all others; and a step of it, where bringing the work on counts 24.
_WEIGHT = 30.0
_EAGERNESS = 30.0

NO_PAPERS = "no papers"

#: How often in a schedule each of its acts may come.
_TIMES = {"fees rise": 6, "the first offer is mined": 2, "seen and forgotten": 2, NO_PAPERS: 2,
          "blocks are full": 1}  # fmt: skip

#: A fee above the first offers, and above their first replacements.
_HIGH_FEE, _USUAL_FEE = 90, 10

#: Long enough for `replace_after_s`, and for everything to be sent again.
_PASSES_S = 5.0

#: A schedule with weather goes on in trouble until its payments, not only until its burns.
_MORE_STEPS = 90

#: Blocks until a full chain's are final: more than a round of the calm mines.
_LATE_FINALITY = 5

#: Nobody is to be burned any more, and somebody to be paid.
_ALL_BURNED = """
SELECT 1 FROM payout_leg HAVING count(*) FILTER (WHERE state IN ('planned', 'burning')) = 0
    AND count(*) FILTER (WHERE state IN ('burned', 'paying')) > 1
"""

_SEEN = "SELECT 1 FROM chain_operation WHERE state = 'mined' LIMIT 1"

_PENDING = "SELECT 1 FROM tx WHERE status = 'pending' LIMIT 1"

#: The lowest nonce that has a newer offer and is not mined, with the bytes of an older one.
_REPLACED = """
SELECT o.tx_hash, o.raw, n.tx_hash FROM tx o JOIN tx n USING (sender, nonce)
WHERE o.status = 'replaced' AND n.status = 'pending' ORDER BY o.nonce, o.fee_cap_units LIMIT 1
"""

#: Verified holders whose tokens are burned, and whose payment is not signed yet.
_BURNED = """
SELECT l.address FROM payout_leg l JOIN identity i ON i.address = l.address
WHERE l.state IN ('burning', 'burned') AND EXISTS (
    SELECT FROM ledger b WHERE b.canonical AND b.kind = 'burn' AND b.ref = l.burn_ref)
ORDER BY l.address
"""


@dataclass(frozen=True)
class _Kind:
    """An act of the weather, and what there must be for it."""

    name: str
    sight: str
    strike: Callable[[list[tuple[Any, ...]]], object]


class Weather:
    """The weather of one schedule."""

    def __init__(self, stage: Stage, rarities: Mapping[str, float]) -> None:
        self._stage, self._dice = stage, stage.dice_for("weather")
        self.kinds = {kind for kind, rarity in rarities.items() if self._dice.random() < rarity}
        self.without_papers: set[str] = set()
        self.more_steps = _MORE_STEPS if self.kinds else 0
        self._left = dict(_TIMES)
        self._now: list[Act] = []
        of_kind = {
            STUCK: (
                _Kind("the first offer is mined", _REPLACED, self._mine_first_offer),
                _Kind("fees rise", _PENDING, self._raise_fees),
            ),
            FULL: (_Kind("blocks are full", _ALL_BURNED, self._fill_blocks),),
            SHAKY: (_Kind("seen and forgotten", _SEEN, self._forget),),
            PAPERS: (_Kind(NO_PAPERS, _BURNED, self._take_papers),),
        }
        self._acts = [act for kind in sorted(self.kinds) for act in of_kind.get(kind, ())]

    def terms(self) -> dict[str, Any]:
        """The terms of `providers.ports.PayoutPolicy` that this weather needs."""
        terms = dict[str, Any]()
        if STUCK in self.kinds:
            terms |= {"replace_after_s": 4.0, "rebroadcast_after_s": 1.0}
        if FULL in self.kinds:
            terms |= {"straggler_after_s": 0.5, "legs_per_transaction": 1, "page_legs": 20,
                      "max_unsettled_nonces": 64}  # fmt: skip
        if REVERT in self.kinds:
            terms |= {"legs_per_transaction": 4, "page_legs": 20}
        return terms

    def begin(self) -> None:
        """Before anything happens on chain."""
        if FULL in self.kinds:
            self._stage.chain.configure(finality_depth=_LATE_FINALITY)
        if REVERT in self.kinds:
            self._stage.chain.fault("revert", tx_kind=TxKind.TRANSFER)
        for kind in sorted(self.kinds):
            self._stage.trace.fault(f"weather: {kind}", "")

    def calm(self, number: int) -> None:
        """Before each round: what has not happened yet, and nobody has to mend, still does."""
        if REVERT in self.kinds and number == 1:
            self._stage.chain.fault("revert", tx_kind=TxKind.TRANSFER)
        if FULL in self.kinds and self._stage.query(_ALL_BURNED):
            self._fill_blocks()

    def take_papers(self) -> None:
        """At once, if this weather does and somebody is burned; who calls it gives them back."""
        for kind in self._acts:
            if kind.name == NO_PAPERS and (found := self._stage.query(kind.sight)):
                self._counted(kind, found)()

    def eagerness(self) -> float:
        """Much while one of its acts has something to do."""
        self._now = self._possible()
        return _EAGERNESS if self._now else 0.0

    def acts(self) -> Sequence[Act]:
        """What may strike now."""
        return self._now

    def _possible(self) -> list[Act]:
        for kind in self._acts:
            if self._left[kind.name] > 0 and (found := self._stage.query(kind.sight)):
                return [Act(kind.name, _WEIGHT, self._counted(kind, found), by_person=False)]
        return []

    def _counted(self, kind: _Kind, found: list[tuple[Any, ...]]) -> Callable[[], object]:
        def run() -> object:
            self._left[kind.name] -= 1
            self._stage.trace.fault(kind.name, "")
            return kind.strike(found)

        return run

    def _fill_blocks(self, _: object = None) -> None:
        self._stage.chain.configure(max_block_transactions=1)

    def _raise_fees(self, _: list[tuple[Any, ...]]) -> object:
        self._stage.chain.configure(fee_per_item_units=_HIGH_FEE)
        return self._stage.pass_time(_PASSES_S)

    def _mine_first_offer(self, found: list[tuple[Any, ...]]) -> object:
        """By somebody whom the newer one never reached; it is cheap again."""
        [(first, raw, newer)] = found
        chain = self._stage.chain
        chain.configure(fee_per_item_units=_USUAL_FEE)
        chain.drop(newer)
        try:
            chain.broadcast(SignedTransaction(first, bytes(raw)))
        except BroadcastRefused as answer:
            return str(answer)
        return chain.mine(1)

    def _forget(self, _: list[tuple[Any, ...]]) -> object:
        depth = self._dice.randint(1, FINALITY_DEPTH)
        return self._stage.chain.reorg(depth, None)

    def _take_papers(self, found: list[tuple[Any, ...]]) -> object:
        address = self._dice.choice(found)[0]
        self.without_papers.add(address)
        self._stage.chain.unverify([address])
        return len(self.without_papers)
