"""What a recalculation promises: only what changed, once, beside itself, beside its writers."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from domain.metrics import Metric
from domain.metrics_exact import Bar, Company, Quarter
from domain.research import MetricName
from models.database import execute, fetch, transaction
from usecases.research.metrics import (
    Recalculated,
    bump_inputs,
    dirty_companies,
    recalc,
    recalc_dirty,
)

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("database")]

Store = Callable[[Company], int]
Read = Callable[[int], dict[tuple[date, MetricName], Metric]]
Spawn = Callable[[Callable[[], Any]], "Future[Any]"]


@pytest.fixture
def company(quarter: Callable[..., Quarter], bars: Callable[..., tuple[Bar, ...]]) -> Company:
    ends = ("2012-03-31", "2012-06-30", "2012-09-30", "2012-12-31")
    quarters = tuple(
        quarter(end, revenue=100 + n, net_income=10, eps_diluted=n + 1)
        for n, end in enumerate(ends)
    )
    return Company(1, "USD", quarters, bars("2013-01-31 20 20", "2013-02-28 24 24"))


def _recalc(*company_ids: int) -> list[Recalculated]:
    with transaction():
        return recalc(company_ids)


def _row_versions() -> list[tuple[object, ...]]:
    """Which transaction wrote each row, and whether one locked it since."""
    return fetch("SELECT xmin::text, xmax::text, ctid::text FROM derived_metric ORDER BY ctid")


def test_the_first_recalculation_writes_every_metric(
    store_company: Store, read_metrics: Read, company: Company
) -> None:
    company_id = store_company(company)
    assert _recalc(company_id) == [Recalculated(company_id, 4 * 9 + 4, 0)]
    assert len(read_metrics(company_id)) == 40
    assert _recalc(company_id) == []  # clean


def test_inputs_that_changed_nothing_write_no_row(store_company: Store, company: Company) -> None:
    company_id = store_company(company)
    _recalc(company_id)
    before = _row_versions()
    with transaction():
        bump_inputs([company_id])
    assert _recalc(company_id) == [Recalculated(company_id, 0, 0)]
    assert _row_versions() == before
    assert dirty_companies() == []


def test_only_dirty_companies_are_recalculated(store_company: Store, company: Company) -> None:
    first, second = store_company(company), store_company(replace(company, id=2))
    _recalc(first, second)
    with transaction():
        bump_inputs([second])
    assert [each.company_id for each in _recalc(first, second)] == [second]


def test_a_value_that_becomes_null_is_cleared(
    store_company: Store, read_metrics: Read, company: Company
) -> None:
    company_id = store_company(company)
    _recalc(company_id)
    key = date(2012, 12, 31), MetricName.NET_MARGIN
    assert read_metrics(company_id)[key].value == Decimal("0.097087378641")  # 10 / 103
    *rest, newest = company.quarters
    store_company(replace(company, quarters=(*rest, replace(newest, vintage=2, net_income=None))))
    [done] = _recalc(company_id)
    metric = read_metrics(company_id)[key]
    assert (metric.value, metric.null_reason, metric.vintage) == (None, "net_income_missing", "2")
    assert done.written == 10  # nine of the newest quarter and its P/E name the new vintage


def test_a_new_quarter_takes_over_what_belongs_to_the_newest(
    store_company: Store,
    read_metrics: Read,
    quarter: Callable[..., Quarter],
    company: Company,
) -> None:
    company_id = store_company(company)
    _recalc(company_id)
    newer = quarter("2013-03-31", revenue=120, eps_diluted=6)
    store_company(replace(company, quarters=(*company.quarters, newer)))
    assert _recalc(company_id) == [Recalculated(company_id, 9 + 4, 4)]
    found = read_metrics(company_id)
    assert (date(2012, 12, 31), MetricName.PE_RATIO) not in found
    assert found[date(2013, 3, 31), MetricName.PE_RATIO].value == Decimal("1.6")  # 24 / 15
    assert (date(2012, 12, 31), MetricName.YOY_REVENUE_GROWTH) in found


def test_metrics_of_periods_that_are_no_more_go(
    store_company: Store, read_metrics: Read, company: Company
) -> None:
    company_id = store_company(company)
    _recalc(company_id)
    store_company(replace(company, quarters=company.quarters[:3]))
    [done] = _recalc(company_id)
    assert done.removed == 13
    assert max(end for end, _ in read_metrics(company_id)) == date(2012, 9, 30)
    store_company(replace(company, quarters=()))
    _recalc(company_id)
    assert read_metrics(company_id) == {}


def test_a_deleted_company_takes_its_metrics_along(store_company: Store, company: Company) -> None:
    first, second = store_company(company), store_company(replace(company, id=2))
    _recalc(first, second)
    execute("DELETE FROM company WHERE id = %s", (first,))
    assert fetch("SELECT DISTINCT company_id FROM derived_metric") == [(second,)]


def test_a_batch_is_a_commit_and_the_next_call_goes_on(
    store_company: Store, read_metrics: Read, company: Company
) -> None:
    ids = [store_company(replace(company, id=number)) for number in range(1, 6)]
    first = next(recalc_dirty(2))  # and then the process dies
    assert [each.company_id for each in first] == ids[:2]
    assert [len(read_metrics(each)) for each in ids] == [40, 40, 0, 0, 0]
    assert [[each.company_id for each in done] for done in recalc_dirty(2)] == [ids[2:4], ids[4:]]
    assert list(recalc_dirty(2)) == []


def test_without_a_transaction_nothing_is_marked(store_company: Store, company: Company) -> None:
    company_id = store_company(company)
    with pytest.raises(RuntimeError, match="open transaction"):
        bump_inputs([company_id])
    with pytest.raises(RuntimeError, match="open transaction"):
        recalc([company_id])


def test_a_rolled_back_recalculation_leaves_the_company_dirty(
    store_company: Store, read_metrics: Read, company: Company
) -> None:
    company_id = store_company(company)

    def crash() -> None:
        with transaction():
            recalc([company_id])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        crash()
    assert read_metrics(company_id) == {}
    assert dirty_companies() == [company_id]


def test_a_writer_that_commits_during_a_recalculation_leaves_the_company_dirty(
    store_company: Store, read_metrics: Read, spawn: Spawn, company: Company
) -> None:
    """The writer has changed a figure, and waits to say so until the recalculation commits."""
    company_id = store_company(company)
    changed = threading.Event()

    def write() -> None:
        with transaction():
            execute("UPDATE statement SET revenue = revenue * 2 WHERE is_current")
            changed.set()
            bump_inputs([company_id])

    with transaction():
        recalc([company_id])
        writer = spawn(write)
        assert changed.wait(30)
    writer.result(30)
    assert dirty_companies() == [company_id]
    assert _recalc(company_id)[0].written > 0
    key = date(2012, 12, 31), MetricName.NET_MARGIN
    assert read_metrics(company_id)[key].value == Decimal("0.048543689320")  # 10 / 206


def test_a_recalculation_waits_for_a_writer_and_sees_what_it_wrote(
    store_company: Store, read_metrics: Read, spawn: Spawn, company: Company
) -> None:
    """Its snapshot must not be older than the revision that it marks as done."""
    company_id = store_company(company)
    with transaction():
        execute("UPDATE statement SET revenue = revenue * 2 WHERE is_current")
        bump_inputs([company_id])
        other = spawn(lambda: _recalc(company_id))
        _wait_for_a_lock()
    other.result(30)
    key = date(2012, 12, 31), MetricName.NET_MARGIN
    assert read_metrics(company_id)[key].value == Decimal("0.048543689320")
    assert dirty_companies() == []


def test_of_two_recalculations_beside_each_other_one_works(
    store_company: Store, spawn: Spawn, company: Company
) -> None:
    ids = [store_company(replace(company, id=number)) for number in range(1, 4)]
    with transaction():
        assert len(recalc(ids)) == 3
        other = spawn(lambda: _recalc(*reversed(ids)))
        _wait_for_a_lock()
    assert other.result(30) == []


def _wait_for_a_lock() -> None:
    """Until somebody waits for the end of this transaction."""
    waiting = (
        "SELECT EXISTS (SELECT FROM pg_locks"
        " WHERE NOT granted AND transactionid = pg_current_xact_id()::xid)"
    )
    while fetch(waiting) == [(False,)]:
        pass
