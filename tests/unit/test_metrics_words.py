"""The words of the metrics are the same in the enums, the SQL and the documentation."""

import re
from pathlib import Path

import pytest

from domain.metrics import NullReason
from domain.research import MetricName
from usecases.research.metrics_sql import RECALC


@pytest.mark.parametrize("word", [*NullReason, *MetricName])
def test_every_word_is_calculated_and_explained(project: Path, word: str) -> None:
    documented = re.findall(r"\w+", (project / "docs" / "metrics.md").read_text())
    assert word in re.findall(r"\w+", RECALC)
    assert word in documented


def test_sql_gives_no_reason_that_nobody_knows() -> None:
    found = set(re.findall(r"THEN\s+'(\w+)'", RECALC))
    assert found == set(NullReason)
