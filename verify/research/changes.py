"""What changes in the world between two nights, or while one is under way; chosen by the dice."""

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

from verify.research.world import QUARTER, Truth, World

#: Corrections come within this many sessions: prices are asked for again for ten days.
CORRECTED_WITHIN = 4


class Changes:
    """Each returns what happened, for the trace."""

    def __init__(self, dice: random.Random, world: World, today: Callable[[], date]) -> None:
        self._dice, self._world, self._today = dice, world, today
        self._filed = 500

    def any(self) -> str:
        """One of them."""
        kinds: list[tuple[float, Callable[[Truth], str]]] = [
            (3, self._restate), (2, self._report), (2, self._correct_price), (1, self._split),
            (2, self._file), (1, self._file_again), (2, self._move_report),
            (1, self._leave_calendar), (1, self._correct_rate),
        ]  # fmt: skip
        [change] = self._dice.choices([kind for _, kind in kinds], [weight for weight, _ in kinds])
        company = self._dice.choice(self._world.companies)
        told = change(company)
        self._world.changed(company)
        return f"{company.symbol} {told}"

    def settle(self) -> None:
        """Everybody is in the calendar, with a date to come."""
        for company in self._world.companies:
            company.in_calendar = True
            while company.report_date < self._today() + timedelta(days=30):
                company.report_date += QUARTER
            self._world.changed(company)

    def _restate(self, company: Truth) -> str:
        """Other figures; perhaps one that is no longer given, or is given again."""
        index = self._dice.randrange(len(company.quarters))
        quarter = company.quarters[index]
        revenue = self._dice.randint(1_000, 9_000) * 10
        changed = self._dice.choice(
            (
                replace(quarter, revenue=revenue, gross_profit=revenue // 2),
                replace(quarter, revenue=None, gross_profit=None),
                replace(quarter, cash=None),
                replace(quarter, eps=None, operating_cash_flow=revenue),
                replace(quarter, cash=revenue, eps=Decimal(revenue) / 10_000),
            )
        )
        company.quarters[index] = changed
        return f"restates {quarter.ends}"

    def _report(self, company: Truth) -> str:
        newest = company.quarters[-1]
        ends = newest.ends + QUARTER
        if ends > self._today():
            return self._restate(company)
        reported = min(self._today(), ends + timedelta(days=25))
        shares = newest.shares
        assert isinstance(shares, int)
        revenue = self._dice.randint(1_000, 9_000) * 10
        company.quarters.append(
            replace(
                newest, ends=ends, reported=reported, revenue=revenue, gross_profit=revenue // 3,
                shares=shares + self._dice.randint(0, 9),
            )
        )  # fmt: skip
        company.report_date = reported + QUARTER
        return f"reports {ends}"

    def _correct_price(self, company: Truth) -> str:
        day = self._dice.choice(self._recent())
        company.closes[day] = self._dice.randint(3_000, 9_000)
        return f"has another close on {day}"

    def _split(self, company: Truth) -> str:
        if company.splits:
            return self._correct_price(company)
        day = self._recent()[-1]
        company.splits[day] = Decimal(2)
        return f"splits on {day}"

    def _recent(self) -> list[date]:
        return self._world.sessions(self._today())[-CORRECTED_WITHIN:]

    def _file(self, company: Truth) -> str:
        self._filed += 1
        return self._add(company, f"<html>{company.symbol} {self._filed}</html>".encode())

    def _file_again(self, company: Truth) -> str:
        """The same bytes under another number."""
        known = list(company.documents.values())
        return self._add(company, self._dice.choice(known)) if known else self._file(company)

    def _add(self, company: Truth, content: bytes) -> str:
        self._filed += 1
        key = f"0000000000-27-{self._filed:06d}"
        company.documents[key] = content
        self._world.write_documents(company)
        return f"files {key}"

    def _move_report(self, company: Truth) -> str:
        company.report_date = self._today() + timedelta(days=self._dice.randint(0, 30))
        return f"will report on {company.report_date}"

    def _leave_calendar(self, company: Truth) -> str:
        company.in_calendar = not company.in_calendar
        return "is in the calendar" if company.in_calendar else "is not in the calendar"

    def _correct_rate(self, company: Truth) -> str:
        day = self._world.rate_days()[-self._dice.randint(1, 3)]
        self._world.rates[day] = self._dice.randint(1, 500)
        return f"sees other rates of {day}"
