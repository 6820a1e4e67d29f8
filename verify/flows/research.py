"""Research nights: whatever fails and dies, the rows are those of a night without trouble.

slots → nights (dates, prices, rates, documents, statements, metrics) over providers that fail and
a world that changes, with overlaps, pauses and resumes → one calm night → rows against the truth
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

from domain.budgets import Budget
from domain.job_types import JobType
from domain.research import ResearchJob
from domain.slots import SCHEDULES
from jobs.actor import Handler
from jobs.operations import Action, apply, pause, resume
from models.database import execute, transaction
from providers.ports import MarketPorts, use_market_ports
from usecases.research.companies import set_followed
from usecases.research.policy import ResearchPolicy, use_research_policy
from usecases.research.runs import revive_stranded, start_night
from usecases.schedule import open_due_slots
from verify.chaos import PAUSES
from verify.flow import Act, Stage, register
from verify.queue_rules import broken_queue_rules
from verify.research.books import ResearchBooks
from verify.research.changes import Changes
from verify.research.reservations import broken_budgets
from verify.research.rules import broken_at_the_end, broken_last_night, broken_midway, night_of
from verify.research.script import (
    ABSENT,
    DOCUMENTS,
    RATES,
    OneByOne,
    Script,
    WorldRates,
    documents,
    market,
)
from verify.research.world import PRIMARY, SECONDARY, World

NIGHTLY = next(each for each in SCHEDULES if each.job_type is JobType.RESEARCH_NIGHT)
MARKET = "service:market"

#: Long enough for every statement to be due and every block to be over.
QUIET_DAYS = 8

_OPEN = """
SELECT (SELECT count(*) FROM job_queue WHERE finished_at IS NULL),
       (SELECT count(*) FROM job_run WHERE finished_at IS NULL)
"""


@register("research")
class Research:
    """Two to four companies, four providers, a few nights."""

    targets: tuple[str, ...] = (
        "EarningsPoll", "PriceRefresh", "FxRefresh", "DocumentRefresh", "FinancialsRefresh",
        "MetricsRecalc", "ResearchNight", "look for slots", "nightly --all", "relay", "rescue",
    )  # fmt: skip
    late_targets: tuple[str, ...] = ()
    calls: tuple[str, ...] = (
        "earnings_calendar", "daily_prices", "rates", "open", "income_statement", "earnings",
    )  # fmt: skip
    queues: tuple[str, ...] = ("market",)
    loops: tuple[str, ...] | None = ("heartbeat", "rescue", "slots")
    more_steps = 0
    pauses: Sequence[float] = PAUSES
    handlers: dict[JobType, Handler] | None = None
    #: In years whose trading days are known; before any of them the calm needs some weeks.
    nights: tuple[datetime, ...] = (
        datetime(2027, 6, 14, 20, 29, 50, tzinfo=UTC),  # ten seconds before 02:00 in India
        datetime(2027, 6, 18, 12, 0, tzinfo=UTC),  # a Friday: the weekend follows
        datetime(2027, 1, 31, 20, 29, 40, tzinfo=UTC),  # the end of a month
        datetime(2027, 12, 31, 18, 29, 45, tzinfo=UTC),  # midnight in India at the end of a year
        datetime(2028, 2, 28, 23, 59, 30, tzinfo=UTC),  # the eve of a leap day
        datetime(2027, 3, 13, 20, 29, 30, tzinfo=UTC),  # New York goes to summer time
        datetime(2027, 11, 6, 20, 29, 30, tzinfo=UTC),  # and back
    )
    is_calm = False
    _is_idle = True  # no night is under way
    _absent: str | None = None  # of the first tier, for one night of the calm
    _last_slot: str | None = None

    def setup(self, stage: Stage) -> None:
        """Companies without any data yet, and providers that have all of it."""
        self.stage, dice = stage, stage.dice
        golden, stored = stage.folder / "golden", stage.folder / "documents"
        self.world = World(
            stage.dice_for("world"), lambda: stage.clock.now, golden, dice.choice((40, 40, 210))
        )
        self.changes = Changes(stage.dice_for("changes"), self.world, self.world.today)
        self.script = Script(stage)
        self._absent = stage.dice_for("absent").choice(ABSENT)
        self.books = ResearchBooks(stage.query, self.world, stored)
        self.budgets = self._budgets()
        whole = dice.random() < 0.7
        tiers = [market(self.world, self.script, name, whole_calendar=whole)
                 for name in (PRIMARY, SECONDARY)]  # fmt: skip
        rest = stage.watch("rest", _Rest(stage))
        use_market_ports(
            MarketPorts(
                tuple(stage.watch("market", tier) for tier in tiers),
                (stage.watch("market", documents(self.script, golden)),),
                (stage.watch("market", WorldRates(self.world, self.script)),),
                self.budgets,
                rest.rest,
            )
        )
        calls = stage.dice_for("calls")
        use_research_policy(
            ResearchPolicy(
                stored,
                concurrency=dice.choice((1, 2, 4)),
                page_s=dice.choice((2.0, 45.0)),
                calls=lambda ask, threads: OneByOne(ask, threads, calls),
                clock=self._stopwatch,
            )
        )
        self._latest_s = 0.0
        with transaction():
            for company in self.world.companies:
                execute(
                    "INSERT INTO company (symbol, name, exchange, currency)"
                    " VALUES (%s, %s, 'NYSE', 'USD')",
                    (company.symbol, f"Company {company.number}"),
                )

    def _budgets(self) -> dict[str, Budget]:
        """Enough for one night without trouble, and for little more."""
        dice, companies = self.stage.dice, len(self.world.companies)
        more = dice.choice((0, 3, 1_000))
        second = 1_000 if self._absent else more  # one night is the second tier's alone
        per_second, per_minute = dice.choice((None, 1, 3)), dice.choice((None, 5, 12))
        return {
            PRIMARY: Budget(per_second, per_minute, 8 * companies + 1 + more, "America/New_York"),
            SECONDARY: Budget(None, per_minute, 4 * companies + second, "America/New_York"),
            DOCUMENTS: Budget(per_second, None, 12 * companies + more),
            RATES: Budget(None, None, 1 + more, "Europe/Berlin"),
        }

    def _stopwatch(self) -> float:
        """A monotonic clock of the simulated time."""
        self._latest_s = max(self._latest_s, self.stage.clock.now.timestamp())
        return self._latest_s

    # What happens.

    def eagerness(self) -> float:
        """Much while no night is under way."""
        self._is_idle = not any(self._open())
        return 40.0 if self._is_idle else 5.0

    def acts(self) -> Sequence[Act]:
        """The scheduler, people, and the world around them."""
        idle = self._is_idle
        symbols = [company.symbol for company in self.world.companies]
        return [
            Act("look for slots", 6 if idle else 2, self._look_for_slots),
            Act("night falls", 4 if idle else 0.7, self._night_falls, by_person=False),
            Act("the world changes", 6, self._change, by_person=False),
            Act("provider", 1, self.script.turn, by_person=False),
            Act("killer", 0.3, partial(self.script.kill_or_not, symbols), by_person=False),
            Act("nightly --all", 1, partial(self._start, tuple(ResearchJob))),
            Act("nightly --resume", 0.7, self._resume_nights),
            Act("cancel", 0.3, self._cancel),
            Act("untrack or track", 0.5, partial(self._follow, self.stage.dice.choice(symbols))),
            Act("pause", 0.3, self._pause),
            Act("resume", 1, self._resume),
        ]

    def calm(self) -> Sequence[Act]:
        """What docs/nightly.md says: resume; then one more night, of whatever is true now."""
        if not self.is_calm:
            self.is_calm = self.script.is_quiet = True
            self.script.down.clear()
            self.changes.settle()
        jobs, runs = self._open()
        if self.stage.query("SELECT 1 FROM pause LIMIT 1"):
            return [Act("resume", 1, self._resume)]
        if unfollowed := self.stage.query("SELECT symbol FROM company WHERE NOT tracked"):
            return [Act("track", 1, partial(self._follow, symbol)) for (symbol,) in unfollowed]
        if runs and not jobs:
            return [Act("nightly --resume", 1, self._resume_nights)]
        if not runs and not jobs and self._last_slot is None:
            if self._absent and not self.script.down:
                days = Act("days without it", 1, self._lose_first_tier, by_person=False)
            else:
                self._absent = None
                self.script.down.clear()
                days = Act("quiet days", 1, self._begin_last_night, by_person=False)
            return [days, Act("look for slots", 1, self._look_for_slots)]
        return []

    def _look_for_slots(self) -> object:
        return open_due_slots([NIGHTLY])

    def _night_falls(self) -> object:
        begins = night_of(self.stage.clock.now) + timedelta(
            days=self.stage.dice.choice((0, 0, 1, 3))
        )
        late = self.stage.dice.choice((-1, 0, 1, 1, 60, 6 * 3_600))
        seconds = (begins - self.stage.clock.now).total_seconds() + late
        return self.stage.pass_time(max(seconds, 0.0))

    def _lose_first_tier(self) -> object:
        """A week later it does not answer, or not to everything: one night goes without it."""
        self.script.down.add(str(self._absent))
        return self._quiet_days()

    def _begin_last_night(self) -> object:
        begins = night_of(self.stage.clock.now + timedelta(days=QUIET_DAYS))
        self._last_slot = f"{NIGHTLY.name}:{(begins + timedelta(hours=1)).date()}"
        return self._quiet_days()

    def _quiet_days(self) -> object:
        begins = night_of(self.stage.clock.now + timedelta(days=QUIET_DAYS))
        self.changes.settle()
        self.books.remember()
        return self.stage.pass_time((begins - self.stage.clock.now).total_seconds() + 1)

    def _change(self) -> object:
        self.books.remember()
        return self.changes.any()

    def _start(self, jobs: Sequence[ResearchJob]) -> object:
        with transaction():
            return start_night(jobs, trigger="manual")

    def _resume_nights(self) -> object:
        with transaction():
            return revive_stranded()

    def _follow(self, symbol: str) -> None:
        [(is_tracked,)] = self.stage.query(
            "SELECT tracked FROM company WHERE symbol = %s", (symbol,)
        )
        set_followed(symbol, tracked=not is_tracked)

    def _cancel(self) -> None:
        rows = self.stage.query(
            "SELECT id::text FROM job_queue WHERE finished_at IS NULL ORDER BY 1 LIMIT 1"
        )
        with transaction():
            apply(Action.CANCEL, [job_id for (job_id,) in rows], "ada")

    def _pause(self) -> None:
        with transaction():
            pause(MARKET, "a look", "ada")

    def _resume(self) -> None:
        with transaction():
            resume(MARKET)

    def _open(self) -> tuple[int, int]:
        [(jobs, runs)] = self.stage.query(_OPEN)
        return jobs, runs

    # What must be true.

    def is_done(self) -> bool:
        """The calm night is over, and nothing is left to do."""
        if self._last_slot is None or any(self._open()):
            return False
        sql = "SELECT 1 FROM job_run WHERE slot_id = %s"
        return bool(self.stage.query(sql, (self._last_slot,)))

    def check_midway(self) -> list[str]:
        """What holds between any two points."""
        found = [f"a call without a reservation: {told}" for told in self.script.unreserved[:1]]
        found += broken_budgets(self.stage.query, self.budgets)
        return found + broken_midway(self.stage.query) + self.books.broken_midway()

    def check(self) -> list[str]:
        """Nights, budgets, queue, and every row against the truth."""
        query = self.stage.query
        found = self.check_midway() + broken_at_the_end(query)
        if self._last_slot is None:
            return [*found, "the last night never began"]
        found += broken_last_night(query, self._last_slot)
        [(began, ended)] = query(
            "SELECT min(created_at), max(finished_at) FROM job_run"
            " WHERE slot_id = %s AND job = 'price_refresh'", (self._last_slot,),
        )  # fmt: skip
        if ended is not None:
            closed = self.world.closed_at(began), self.world.closed_at(ended)
            found += self.books.broken_at_the_end(closed)
        return found + broken_queue_rules(query)


class _Rest:
    """A call that waits for its second: simulated time, with a point before and after."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def rest(self, seconds: float) -> None:
        """So much later."""
        self._stage.wait(seconds)
