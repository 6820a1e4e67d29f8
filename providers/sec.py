"""Read the SEC's list of a company's filings (data.sec.gov/submissions), column by column.

    CIK##########.json → rows of `filings.recent` → DocumentRef, newest first

Only filings of the forms that carry figures or news are offered. Raises Malformed.
"""

from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import quote

from providers.fields import Malformed, day, json_object, required_text, text
from providers.market import DocumentRef

ARCHIVES = "https://www.sec.gov/Archives/edgar/data"
SUBMISSIONS = "https://data.sec.gov/submissions/CIK{cik:0>10}.json"

#: Annual, quarterly and current reports, of domestic and foreign companies.
REPORT_FORMS = frozenset({"10-K", "10-Q", "8-K", "20-F", "40-F", "6-K"})

_COLUMNS = ("accessionNumber", "filingDate", "form", "primaryDocument")


def read_submissions(body: bytes, forms: Collection[str] = REPORT_FORMS) -> list[DocumentRef]:
    """The filings of `forms` and their amendments ("10-K/A"), each named by its accession."""
    found = json_object(body)
    cik = str(found.get("cik", "")).lstrip("0")
    if not (cik.isascii() and cik.isdigit()):
        raise Malformed("cik", "expected digits")
    filings = found.get("filings")
    recent = filings.get("recent") if isinstance(filings, dict) else None
    if not isinstance(recent, dict):
        raise Malformed("filings.recent", "is missing")
    columns = {name: _column(recent, name) for name in _COLUMNS}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise Malformed("filings.recent", f"columns of different lengths: {lengths}")
    descriptions = recent.get("primaryDocDescription") or []
    documents = {}
    for index in range(lengths["form"]):
        where = f"filings.recent[{index}]"
        form = required_text(columns["form"][index], f"{where}.form")
        name = text(columns["primaryDocument"][index], f"{where}.primaryDocument")
        if name is None or form.removesuffix("/A") not in forms:
            continue
        key = required_text(columns["accessionNumber"][index], f"{where}.accessionNumber")
        if ".." in name or key.count("-") != 2 or not key.replace("-", "").isdigit():
            raise Malformed(where, f"expected an accession number and a file, {key[:30]!r}")
        told = descriptions[index] if index < len(descriptions) else None
        documents[key] = DocumentRef(
            kind="filing",
            key=key,
            title=(text(told, f"{where}.primaryDocDescription") or form),
            source=f"{ARCHIVES}/{cik}/{key.replace('-', '')}/{quote(name)}",
            form=form,
            filed_on=day(columns["filingDate"][index], f"{where}.filingDate"),
        )
    return sorted(documents.values(), key=lambda ref: (str(ref.filed_on), ref.key), reverse=True)


def _column(recent: Mapping[str, Any], name: str) -> list[Any]:
    column = recent.get(name)
    if not isinstance(column, list):
        raise Malformed(f"filings.recent.{name}", "expected a list")
    return column
