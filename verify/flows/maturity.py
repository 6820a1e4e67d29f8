"""Maturity: a bond's holders are paid exactly once, whoever dies, and whatever people do meanwhile.

trigger → plan → four eyes → money → burn → transfer → told, with stops, retries and top-ups
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from domain.job_types import JobType
from jobs.actor import Handler
from mocks.chain import MockSigner, address_of
from models.database import execute, transaction
from providers.ports import PayoutPolicy, use_policy
from usecases.payouts.approval import approve_run
from usecases.payouts.funds import available, read_balances
from usecases.payouts.reconcile import reconcile
from usecases.payouts.retry import retry_run
from usecases.payouts.stopping import resume_run, stop_run
from usecases.payouts.trigger import trigger_maturity
from verify.chaos import PAUSES
from verify.clock import NIGHTS
from verify.flow import ALL_LOOPS_EVERY, WALLET_KEY, Act, Stage, register
from verify.flows.deep_reorg import accept_what_it_cost, deep_reorg_acts, reorganise_deeply
from verify.flows.weather import RARITIES, Weather
from verify.ledger import Books
from verify.queue_rules import broken_queue_rules
from verify.witness import Witness

BOND, CONTRACT, FACE, DECIMALS = "bond", "bond-contract", 10, 2
FEE, FEE_CAP = 10, 40

#: Who triggers, and may not approve what needs four eyes.
TRIGGER = "carl"


@register("maturity")
class Maturity:
    """One bond, one to four holders, one wallet."""

    targets: tuple[str, ...] = (
        "MaturityPayment", "MaturityLiquidityCheck", "MaturityTokenBurn", "MaturityPLTTransfer",
        "MaturityRecord", "NotificationIndividualProcessor", "settlement", "sweep", "relay",
        "rescue",
    )  # fmt: skip
    late_targets: tuple[str, ...] = ("MaturityRecord",)
    calls: tuple[str, ...] = ("broadcast", "sign", "receipts")
    queues: tuple[str, ...] = ("maturity", "notifications", "system")
    nights: tuple[datetime, ...] = NIGHTS
    loops: tuple[str, ...] | None = None
    more_steps = 0
    pauses: Sequence[float] = PAUSES
    handlers: dict[JobType, Handler] | None = None
    coin_units = 10**6
    page_legs: tuple[int, ...] = (1, 2, 20)
    rarities = RARITIES
    is_calm = False
    is_deep = False  # a reorg took back what was final
    _rounds = 0  # of calm
    _has_run = False

    def setup(self, stage: Stage) -> None:
        """The bond and its holders, on chain and in the register; perhaps not enough money."""
        self.stage, dice = stage, stage.dice
        self.books = Books(stage.query)
        self.wallet = MockSigner(WALLET_KEY).address
        self.holders = sorted(
            address_of(f"holder-{n}") for n in range(dice.choice((1, 2, 2, 3, 4)))
        )
        self.positions = [
            (address, token_id, dice.randint(1, 9))
            for address in self.holders
            for token_id in ((10_000, 10_365) if dice.random() < 0.3 else (10_000,))
        ]
        self.total = sum(n for _, _, n in self.positions) * FACE * 10**DECIMALS
        self.is_large = dice.random() < 0.3
        self.weather = Weather(stage, self.rarities)
        terms = PayoutPolicy(
            environment_id="verify",
            page_legs=dice.choice(self.page_legs),
            legs_per_transaction=dice.choice((1, 2, 4)),
            fee_cap_units=FEE_CAP,
            max_unsettled_nonces=dice.choice((1, 3, 64)),
            rebroadcast_after_s=dice.choice((1.0, 5.0)),
            replace_after_s=dice.choice((4.0, 60.0)),
            straggler_after_s=dice.choice((3.0, 60.0)),
            four_eyes_above=Decimal(0) if self.is_large else None,
        )
        use_policy(replace(terms, **self.weather.terms()))
        self.more_steps = self.weather.more_steps
        self.witness = Witness.of_ports(stage.query)
        self._write_bond(BOND, CONTRACT, self.positions)
        chain = stage.chain
        verified = [a for a in self.holders if dice.random() < 0.85]
        chain.verify(verified)
        chain.mint(CONTRACT, self.positions)
        short = dice.random() < 0.25
        chain.fund(
            self.wallet,
            token_units=self.total // 2 if short else self.total,
            coin_units=self.coin_units,
        )
        self.weather.begin()
        chain.finalize()
        self.may_be_deep = stage.dice_for("deep").random() < 0.1
        if dice.random() < 0.3:
            chain.fault("revert", probability=0.5, times=dice.randint(1, 2))
            stage.trace.fault("transactions will revert", "")

    def _write_bond(
        self, bond: str, contract: str, positions: Sequence[tuple[str, int, int]]
    ) -> None:
        with transaction():
            execute(
                "INSERT INTO bond (id, name, contract, token, token_decimals, file_digest,"
                " face_value_per_token, maturity_date)"
                " VALUES (%s, 'Bond', %s, 'PLT', %s, 'digest', %s, '2091-01-01')",
                (bond, contract, DECIMALS, FACE),
            )
            execute(
                "INSERT INTO bond_investor (bond_id, address, whitelisted)"
                " SELECT DISTINCT %s, unnest(%s::text[]), true",
                (bond, [address for address, _, _ in positions]),
            )
            addresses, ids, balances = zip(*positions, strict=True)
            execute(
                "INSERT INTO bond_holding SELECT %s, * FROM"
                " unnest(%s::text[], %s::bigint[], %s::numeric[])",
                (bond, list(addresses), list(ids), list(balances)),
            )

    # What happens.

    def eagerness(self) -> float:
        """Much until there is a run: nothing happens before its trigger."""
        if not self._has_run:
            self._has_run = bool(self._runs())
        return 3.0 + self.weather.eagerness() if self._has_run else 60.0

    def acts(self) -> Sequence[Act]:
        """People at work, and the world around them."""
        runs = self._runs()
        live = [run for run in runs if run["state"] not in ("cancelled", "failed")]
        acts = [Act("whitelist", 1, self._change_whitelist, by_person=False),
                Act("fee", 0.5, self._change_fee, by_person=False)]  # fmt: skip
        if self.may_be_deep:
            acts.append(Act("deep reorg", 0.5, self._reorganise_deeply, by_person=False))
        if not live:
            return [Act("trigger", 20, self._trigger), *acts]
        return [*acts, *self.weather.acts(), *self._acts_on(live[-1])]

    def _acts_on(self, run: dict[str, Any]) -> list[Act]:
        acts = [
            Act("trigger again", 0.5, self._trigger),
            Act("stop", 0.6, lambda: stop_run(run["id"], "ada")),
            Act("retry", 1, lambda: retry_run(run["id"], by="ada")),
            Act("reconcile", 0.7, lambda: reconcile(run["id"])),
        ]
        if run["state"] == "approval":
            acts.append(Act("approve", 10, lambda: approve_run(run["id"], run["hash"], "bob")))
            alone = TRIGGER.title()  # as people type their names
            acts.append(Act("approve alone", 1, lambda: approve_run(run["id"], run["hash"], alone)))
            acts.append(Act("approve unread", 1, lambda: approve_run(run["id"], "0" * 64, "bob")))
        if run["state"] in ("stopping", "stopped"):
            acts.append(Act("resume", 5, lambda: resume_run(run["id"], "ada")))
        if run["state"] == "waiting":
            acts.append(Act("top up", 2, self._top_up, by_person=False))
        return acts

    def calm(self) -> Sequence[Act]:
        """What the operator's pages say: approve, resume, top up, retry."""
        chain = self.stage.chain
        self._rounds += 1
        if not self.is_calm:
            chain.verify(self.holders)
            chain.clear_faults()
            chain.configure(fee_per_item_units=FEE)
            self.is_calm = True
        self.weather.calm(self._rounds)
        runs = self._runs()
        live = [run for run in runs if run["state"] not in ("cancelled", "failed")]
        if not live:
            return [Act("trigger", 1, self._trigger)]
        mend = deep_reorg_acts(self.stage.query) if self.is_deep else []
        return mend + self._calm_on(live[-1])

    def _calm_on(self, run: dict[str, Any]) -> list[Act]:
        acts = list[Act]()
        match run["state"]:
            case "approval":
                acts.append(Act("approve", 1, lambda: approve_run(run["id"], run["hash"], "bob")))
            case "stopping" | "stopped":
                acts.append(Act("resume", 1, lambda: resume_run(run["id"], "ada")))
            case "waiting":
                acts.append(Act("top up", 1, self._top_up, by_person=False))
            case "finished":
                acts.append(Act("retry", 1, lambda: retry_run(run["id"], by="ada")))
        return acts

    def _trigger(self) -> object:
        return trigger_maturity(BOND, TRIGGER)

    def _top_up(self) -> object:
        missing = self.total - self.stage.chain.status().totals.get("token:PLT", 0)
        if missing > 0:
            self.stage.chain.fund(self.wallet, token_units=missing)
            self.stage.chain.finalize()
        return missing

    def _change_whitelist(self) -> object:
        address = self.stage.dice.choice(self.holders)
        number = self.holders.index(address)
        if self.stage.dice.random() < 0.4:
            self.stage.chain.unverify([address])
            self.stage.trace.fault("holder off the whitelist", str(number))
        else:
            self.stage.chain.verify([address])
        return number

    def _change_fee(self) -> object:
        fee = self.stage.dice.choice((10, 10, 50, 90))
        self.stage.chain.configure(fee_per_item_units=fee)
        return fee

    def _reorganise_deeply(self) -> object:
        found = None if self.is_deep else reorganise_deeply(self.stage)
        self.is_deep = self.is_deep or found is not None
        return found

    # What must be true.

    def is_done(self) -> bool:
        """Everybody is paid and told, and nothing is left to do."""
        if self.is_deep and self._rounds <= ALL_LOOPS_EVERY:
            return False  # what was final is not, and no settlement has looked yet
        states = self.stage.query(
            "SELECT r.state, l.state FROM payout_run r LEFT JOIN payout_leg l ON l.run_id = r.id"
            " WHERE r.state NOT IN ('cancelled', 'failed')"
        )
        if not states or any(pair != ("finished", "paid") for pair in states):
            return False
        open_jobs = "SELECT 1 FROM job_queue WHERE finished_at IS NULL AND job_type <> 'JobsPrune'"
        return not self.stage.query(open_jobs + " LIMIT 1")

    def check_midway(self) -> list[str]:
        """What holds between any two points."""
        return self.books.broken_midway(self.is_deep) + self._broken_by_people()

    def check(self) -> list[str]:
        """Books, ledger and queue."""
        paid = {a: n * FACE * 10**DECIMALS for a, n in self._held().items()}
        tokens, but = self._held(), tuple[str, ...]()
        if self.is_deep:
            but = ("a service paused itself",)
            for address in accept_what_it_cost(self.stage.query):
                tokens[address] = self.books.burned(address)
        found = self.books.broken_at_the_end(tokens, paid, self.is_deep)
        found += broken_queue_rules(self.stage.query, but)
        found += self._broken_by_people() + self._still_promised()
        for run in self._runs():
            if run["state"] == "finished":
                found += reconcile(run["id"]).findings
        return found

    def _broken_by_people(self) -> list[str]:
        found = self.witness.unasked + ([] if self.is_deep else self.witness.unburned)
        if self.is_large:
            alone = self.stage.query(
                "SELECT id FROM payout_run WHERE lower(approved_by) = lower(triggered_by)"
            )
            found += [f"a large run was approved by its trigger: {run_id}" for (run_id,) in alone]
        unread = self.stage.query(
            "SELECT d.note FROM payout_decision d JOIN payout_run r ON r.id = d.run_id"
            " WHERE d.kind = 'approve' AND d.note IS DISTINCT FROM r.plan_hash"
        )
        return found + [f"another plan than the run's was approved: {note}" for (note,) in unread]

    def _still_promised(self) -> list[str]:
        """With every run at its end, the program itself must hold nothing back."""
        found = []
        for (wallet_id,) in self.stage.query("SELECT id FROM wallet"):
            balances = read_balances(self.wallet, "PLT", self.stage.chain.head().final_height)
            free = available(wallet_id, "PLT", balances)
            if free != (balances.token_units, balances.coin_units):
                found.append(f"{free} of {balances} is free, though nothing is open")
        return found

    def _held(self) -> dict[str, int]:
        held = Counter[str]()
        for address, _, n in self.positions:
            held[address] += n
        return held

    def _runs(self) -> list[dict[str, Any]]:
        rows = self.stage.query(
            "SELECT id::text, state, plan_hash FROM payout_run ORDER BY sequence"
        )
        return [{"id": run_id, "state": state, "hash": found} for run_id, state, found in rows]
