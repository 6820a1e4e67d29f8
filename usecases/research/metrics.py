"""Recalculate the derived metrics of companies whose inputs changed, a batch per commit.

    writers: change + bump_inputs, one transaction → dirty → recalc → derived_metric

A company is dirty until a recalculation that saw its newest inputs has committed. Running it again,
beside itself, or after a crash gives the same rows; what did not change is not written.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from models.database import db, execute, fetch, transaction
from usecases.research.metrics_sql import RECALC, RULES

#: Companies per commit: fewer plan the statement more often, more make writers wait longer.
BATCH_COMPANIES = 500


@dataclass(frozen=True)
class Recalculated:
    """What a recalculation changed of one company; 0 and 0 when everything was as before."""

    company_id: int
    written: int
    removed: int


_BUMP = """
INSERT INTO research_state AS s (company_id)
SELECT DISTINCT id FROM unnest(%(companies)s::integer[]) AS given (id) ORDER BY id
ON CONFLICT (company_id) DO UPDATE SET inputs_revision = s.inputs_revision + 1
"""

#: Before the statement that reads, so that its snapshot is younger than the lock: whoever computes
#: second sees what the first one wrote, and no older inputs overwrite newer metrics.
_LOCK = """
SELECT FROM research_state
WHERE company_id = ANY (%(companies)s) AND inputs_revision > metrics_revision
ORDER BY company_id FOR NO KEY UPDATE
"""

_NEXT_DIRTY = """
SELECT company_id FROM research_state
WHERE company_id > %(after)s AND inputs_revision > metrics_revision
ORDER BY company_id LIMIT %(limit)s
"""


def bump_inputs(company_ids: Sequence[int]) -> None:
    """Say that inputs of these companies' metrics changed, in the transaction that changes them.

    Inputs are statements, prices, splits, and a company's currency.

    Raises:
        RuntimeError: no transaction is open.
    """
    _demand_transaction("bump_inputs")
    if company_ids:
        execute(_BUMP, {"companies": list(company_ids)})


def recalc(company_ids: Sequence[int]) -> list[Recalculated]:
    """Calculate the metrics of those companies that are dirty, in the open transaction.

    Returns one entry for each company that was dirty. Their writers wait for the commit.

    Raises:
        RuntimeError: no transaction is open.
    """
    _demand_transaction("recalc")
    given = {"companies": list(company_ids)}
    fetch(_LOCK, given)
    execute("SET LOCAL jit = off")  # compiling costs more than it saves, in each batch anew
    return [Recalculated(*row) for row in fetch(RECALC, {**RULES, **given})]


def recalc_dirty(batch_companies: int = BATCH_COMPANIES) -> Iterator[list[Recalculated]]:
    """Recalculate all dirty companies; yields each batch after its commit.

    Stop anywhere, and the next call goes on with what is left.
    """
    after = 0
    while companies := dirty_companies(after=after, limit=batch_companies):
        with transaction():
            done = recalc(companies)
        yield done
        after = companies[-1]


def dirty_companies(*, after: int = 0, limit: int = BATCH_COMPANIES) -> list[int]:
    """Ids of companies whose metrics are older than their inputs, in their order."""
    return [company for (company,) in fetch(_NEXT_DIRTY, {"after": after, "limit": limit})]


def _demand_transaction(what: str) -> None:
    if not db.in_transaction():
        raise RuntimeError(f"{what} needs an open transaction: it commits with its cause")
