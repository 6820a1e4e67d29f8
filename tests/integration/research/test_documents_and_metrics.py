"""Documents, each once; rates; and metrics that follow what a night has changed."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from domain.research import MetricName, ResearchJob
from models.database import fetch
from providers.market import FailureClass
from usecases.research.document_refresh import PER_NIGHT
from usecases.research.download import DownloadLimits
from usecases.research.metrics import recalc
from usecases.research.policy import ResearchPolicy, use_research_policy

if TYPE_CHECKING:
    from tests.integration.research.conftest import World

pytestmark = pytest.mark.integration

DOCUMENTS, METRICS = ResearchJob.DOCUMENT_REFRESH, ResearchJob.METRICS_RECALC


def test_documents_are_fetched_once(world: World) -> None:
    world.company("AAPL")
    world.documents.files["AAPL", "copy"] = world.documents.files["AAPL", "AAPL-1"]
    world.night(DOCUMENTS)
    content = b"filing of AAPL"
    digest = hashlib.sha256(content).hexdigest()
    rows = fetch("SELECT document_key, sha256, size_bytes, file FROM document ORDER BY 1")
    assert [row[:3] for row in rows] == [
        ("AAPL-1", digest, len(content)), ("copy", digest, len(content)),
    ]  # fmt: skip
    assert {row[3] for row in rows} == {f"{digest[:2]}/{digest}"}  # one file
    assert (world.folder / rows[0][3]).read_bytes() == content
    world.night(DOCUMENTS)
    assert world.script.count("open") == 2
    assert world.items(DOCUMENTS) == {"AAPL": ("skipped", "no new document")}


def test_a_document_that_is_too_large_leaves_the_others(world: World) -> None:
    world.company("AAPL")
    world.documents.files["AAPL", "large"] = b"x" * 1_000
    use_research_policy(ResearchPolicy(world.folder, limits=DownloadLimits(max_bytes=100)))
    world.night(DOCUMENTS)
    assert fetch("SELECT document_key FROM document") == [("AAPL-1",)]
    [(status, reason)] = world.items(DOCUMENTS).values()
    assert status == "skipped"
    assert reason is not None
    assert "TooLarge" in reason
    assert "AAPL" not in reason
    assert world.run(DOCUMENTS)["outcome"] == "partial"


def test_a_company_with_years_of_documents_takes_some_nights(world: World) -> None:
    world.company("AAPL")
    for number in range(PER_NIGHT + 4):
        world.documents.files["AAPL", f"k{number}"] = f"{number}".encode()
    world.night(DOCUMENTS)
    assert fetch("SELECT count(*) FROM document") == [(PER_NIGHT,)]
    assert world.run(DOCUMENTS)["outcome"] == "completed"
    world.night(DOCUMENTS)
    assert fetch("SELECT count(*) FROM document") == [(PER_NIGHT + 5,)]


def test_a_company_without_documents_is_no_error(world: World) -> None:
    world.company("AAPL")
    world.documents.files.clear()
    world.night(DOCUMENTS)
    assert world.run(DOCUMENTS)["outcome"] == "completed"


def test_a_document_that_is_gone_is_said(world: World) -> None:
    world.company("AAPL")
    world.documents.files["AAPL", "gone"] = b"never read"
    world.fail("open", "gone", FailureClass.NOT_FOUND)
    world.night(DOCUMENTS)
    assert fetch("SELECT document_key FROM document") == [("AAPL-1",)]
    assert world.items(DOCUMENTS) == {"AAPL": ("skipped", "fake: NOT_FOUND")}


def test_rates_are_stored_and_what_did_not_change_is_not_written(world: World) -> None:
    world.company("AAPL")
    world.night(ResearchJob.FX_REFRESH)
    before = fetch("SELECT base, quote, rate, provider, xmin::text FROM fx_rate ORDER BY quote")
    assert [row[:4] for row in before] == [
        ("EUR", "INR", world.fx.rate, "fake-fx"), ("EUR", "USD", world.fx.rate, "fake-fx"),
    ]  # fmt: skip
    world.night(ResearchJob.FX_REFRESH)
    after = fetch("SELECT base, quote, rate, provider, xmin::text FROM fx_rate ORDER BY quote")
    assert after == before
    assert world.items(ResearchJob.FX_REFRESH) == {"rates": ("skipped", "as known")}


def test_metrics_recalc_creates_derived_metrics(world: World) -> None:
    world.company("AAPL")
    world.company("IBM")
    world.night()
    rows = fetch(
        "SELECT symbol, metric_name, value FROM derived_metric"
        " JOIN company c ON c.id = company_id WHERE period_end_date = '2026-09-30' ORDER BY 1, 2"
    )
    values = {(symbol, name): value for symbol, name, value in rows}
    assert len(values) == 2 * len(MetricName)
    assert values["AAPL", "gross_margin"] == values["IBM", "gross_margin"]
    assert str(values["AAPL", "gross_margin"]) == "0.500000000000"
    assert str(values["AAPL", "qoq_revenue_growth"])[:8] == "0.010101"  # 1000 / 990 - 1
    assert values["AAPL", "momentum_1m"] > 0
    run = world.run(METRICS)
    assert (run["outcome"], run["processed"], run["updated"]) == ("completed", 2, 2)


def test_only_companies_whose_inputs_changed_are_recalculated(world: World) -> None:
    world.company("AAPL")
    world.company("IBM")
    world.night()
    world.market.revenue["IBM"][max(world.market.revenue["IBM"])] *= 2
    world.later(days=8)
    world.night()
    assert world.items(METRICS) == {"IBM": ("updated", None)}


def test_a_batch_that_fails_is_done_one_by_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [world.company(symbol) for symbol in ("AAPL", "IBM", "MSFT")]

    def failing(companies: list[int]) -> object:
        if ids[1] in companies:
            raise ArithmeticError("IBM's figures")
        return recalc(companies)

    monkeypatch.setattr("usecases.research.metrics_recalc.recalc", failing)
    world.night()
    assert world.items(METRICS) == {
        "AAPL": ("updated", None),
        "IBM": ("error", "unexpected ArithmeticError"),
        "MSFT": ("updated", None),
    }
    assert world.run(METRICS)["outcome"] == "partial"
