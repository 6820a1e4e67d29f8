"""Rivals: two bonds mature on one wallet that cannot pay both at once.

two triggers → who was first reserves → the other waits for a top-up; stops free what is unburned
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from mocks.chain import address_of
from providers.ports import policy
from usecases.payouts.stopping import stop_run
from usecases.payouts.trigger import trigger_maturity
from verify.flow import Act, Stage, register
from verify.flows.maturity import BOND, DECIMALS, FACE, TRIGGER, Maturity
from verify.flows.weather import PAPERS

SECOND, SECOND_CONTRACT = "second", "second-contract"

#: The weather of two bonds.
RARITIES = {PAPERS: 0.5}

#: Steps of trouble beside those of any schedule, where both runs wait for their money.
MORE_STEPS = 60

#: Time enough for both runs to look for it again.
POLL_S = 16.0

#: When the weather may still take a holder's papers in the calm, and when they come back: in
#: rounds of patience that are left.
EARLY, LATE_PAPERS = 8, 3

#: States of a run that has its money, or is about to ask for it.
_AT_WORK = ("planning", "paying", "stopping")

#: What is owed to holders whose tokens are gone, and what runs have reserved, on any wallet.
_OWED = """
SELECT coalesce(sum(l.units) FILTER (WHERE reserved OR burned), 0),
       count(*) FILTER (WHERE burned)
FROM payout_leg l JOIN payout_run r ON r.id = l.run_id
CROSS JOIN LATERAL (SELECT r.reserved_at IS NOT NULL AND r.state IN ('paying', 'stopping')
    AND l.state IN ('planned', 'burning', 'burned', 'paying') AS reserved,
    EXISTS (SELECT FROM ledger b WHERE b.canonical AND b.kind = 'burn' AND b.ref = l.burn_ref)
        AS burned) s
WHERE NOT EXISTS (SELECT FROM ledger t WHERE t.canonical AND t.kind = 'transfer'
                  AND t.ref = l.transfer_ref)
"""

_BALANCE = """
SELECT coalesce((SELECT balance_units FROM ledger WHERE canonical AND asset = %s AND address = %s
                 ORDER BY height DESC, position DESC LIMIT 1), 0)
"""


@register("rivals")
class Rivals(Maturity):
    """A second bond beside the first, with holders of its own."""

    def setup(self, stage: Stage) -> None:
        """Tokens for the first bond or half of it; coin for its burns, for all of it, or plenty."""
        super().setup(stage)
        dice, chain = stage.dice, stage.chain
        chain.clear_faults()  # a reverted transaction's fee was promised to another
        holders = sorted(address_of(f"rival-{n}") for n in range(dice.choice((1, 1, 2, 3))))
        positions = [(address, 10_000, dice.randint(1, 5)) for address in holders]
        self._write_bond(SECOND, SECOND_CONTRACT, positions)
        chain.mint(SECOND_CONTRACT, positions)
        chain.verify([address for address in holders if dice.random() < 0.85])
        items = len(self.positions) + len({address for address, _, _ in self.positions})
        coin = (
            dice.choice((len(self.positions), items, 10**4, 10**4, 10**4))
            * policy().fee_reserve_units
        )
        chain.fund(self.wallet, coin_units=coin)
        chain.finalize()
        self.holders = sorted(self.holders + holders)
        self.positions += positions
        rival = sum(n for _, _, n in positions) * FACE * 10**DECIMALS
        self._either, self._both_wait = max(self.total, rival), False
        self._money_is_late = stage.dice_for("late money").random() < 0.7
        if self._money_is_late:
            has = chain.status().totals["token:PLT"]
            chain.fund(self.wallet, token_units=-has)
            chain.finalize()
            self.more_steps = max(self.more_steps, MORE_STEPS)
        self.total += rival

    coin_units = 0
    rarities = RARITIES
    pauses: Sequence[float] = (0.05, 0.2, 0.35)  # for who looks at the same money at once
    page_legs = (1, 1, 2)  # so that much of the first is still to come when the second asks
    _patience = 15  # rounds of calm

    def acts(self) -> Sequence[Act]:
        """As with one bond, for each of the two."""
        live = self._live()
        acts = [
            Act("whitelist", 1, self._change_whitelist, by_person=False),
            Act("top up", 0.3, self._top_up, by_person=False),
            *self.weather.acts(),
        ]
        if self._both_wait:
            acts.append(Act("money for either", 40, self._fund_either, by_person=False))
        for run in live:
            acts += self._acts_on(run)
            if run["state"] == "paying":
                acts.append(Act("stop both", 0.6, partial(stop_run, run["id"], "ada")))
        if len(live) < 2:
            acts.append(Act("trigger", 20, self._trigger))
        return acts

    def calm(self) -> Sequence[Act]:
        """Money for the second comes when the first needs nothing more: it must wait for it."""
        late = self.weather.without_papers
        if not self.is_calm:
            super().calm()
            self.stage.chain.unverify(late)
        live = self._live()
        self._patience -= 1
        acts = list[Act]()
        if not late and self._patience > EARLY:
            self.weather.take_papers()
        if self._patience == LATE_PAPERS:
            self.stage.chain.verify(late)
        is_idle = not late and all(run["state"] not in _AT_WORK for run in live)
        if self._patience < 0 or is_idle:
            acts.append(Act("top up", 1, self._top_up, by_person=False))
        if len(live) < 2:
            acts.append(Act("trigger", 1, self._trigger))
        for run in live:
            acts += self._calm_on(run)
        return acts

    def _acts_on(self, run: dict[str, Any]) -> list[Act]:
        """Whoever waits is not topped up for that alone: who is first is what this is about."""
        return [act for act in super()._acts_on(run) if act.name != "top up"]

    def _calm_on(self, run: dict[str, Any]) -> list[Act]:
        return [act for act in super()._calm_on(run) if act.name != "top up"]

    def _live(self) -> list[dict[str, Any]]:
        return [run for run in self._runs() if run["state"] not in ("cancelled", "failed")]

    def _trigger(self) -> object:
        """The bond that has no run; with both under way, the first again."""
        [(second,)] = self.stage.query(
            "SELECT count(*) FROM payout_run WHERE subject = %s"
            " AND state NOT IN ('cancelled', 'failed')",
            (BOND,),
        )
        return trigger_maturity(SECOND if second else BOND, TRIGGER)

    def _top_up(self) -> object:
        self.stage.chain.fund(self.wallet, coin_units=10**5)
        return super()._top_up()

    def _fund_either(self) -> object:
        """Enough for whichever run reserves it, and both of them look."""
        self._money_is_late = self._both_wait = False
        self.stage.chain.fund(self.wallet, token_units=self._either)
        self.stage.chain.finalize()
        self.stage.trace.fault("money for either of two", "")
        return self.stage.pass_time(POLL_S)

    def eagerness(self) -> float:
        """Much until there are both runs."""
        if not self._has_run:
            self._has_run = len(self._live()) == 2
        if not self._has_run:
            return 40.0
        if self._money_is_late:
            self._both_wait = [run["state"] for run in self._live()] == ["waiting"] * 2
        return 4.0 + self.weather.eagerness() + (30.0 if self._both_wait else 0.0)

    def is_done(self) -> bool:
        """Both are paid."""
        return super().is_done() and len(self._live()) == 2

    def check_midway(self) -> list[str]:
        """What is owed and promised is there, and the fees of all that is burned."""
        found = super().check_midway()
        [(units, burned)] = self.stage.query(_OWED)
        [(tokens,)] = self.stage.query(_BALANCE, ("token:PLT", self.wallet))
        [(coin,)] = self.stage.query(_BALANCE, ("coin", self.wallet))
        if units > tokens:
            found.append(f"more is owed and promised than the wallet has: {units} of {tokens}")
        if burned * policy().fee_reserve_units > coin:
            found.append(f"payments of burned legs have no fees: {burned} legs, {coin} coin")
        return found
