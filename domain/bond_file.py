"""Read a bond file whole, or refuse it whole with every reason.

    bond.json (+ holders.csv) → terms and rows → Register → BondFile

Pure: takes the text and the lines, and knows no files. Formats: docs/cli.md.
"""

from collections.abc import Iterable

from domain.bond_csv import read_holders
from domain.bond_json import Reader, load, with_lines
from domain.bond_register import (
    BadBondFile,
    BondFile,
    BondTerms,
    HolderSink,
    Problem,
    Register,
)

__all__ = ["BadBondFile", "BondFile", "Problem", "read_bond_file", "read_terms"]


def read_bond_file(text: str, holders: Iterable[str] | None = None) -> BondFile:
    """Check bond.json (`text`) and its holders, which may come as the lines of a CSV instead.

    Raises BadBondFile with every problem. Fields of the JSON are named by path, of the CSV by
    column; both with their line.
    """
    register = Register()
    terms = read_terms(text, register, holders_apart=holders is not None)
    if holders is not None:
        read_holders(holders, register)
    try:
        return register.close(terms)
    except BadBondFile as error:
        raise BadBondFile(with_lines(text, error.problems)) from None


def read_terms(text: str, register: HolderSink, *, holders_apart: bool) -> BondTerms | None:
    """Check bond.json, and put its investors into the register unless they come apart, as CSV.

    What is wrong goes to the register's problems, with its line; None when the terms are wrong.
    Raises BadBondFile for what is no JSON object.
    """
    document = load(text)
    reader = Reader(register)
    reader.keys(document, "", ("bond", "investors"), ("bond",))
    terms = reader.terms(document["bond"]) if "bond" in document else None
    if holders_apart and "investors" in document:
        reader.problem("investors", "the holders come as CSV, so leave this field out")
    elif not holders_apart and "investors" not in document:
        reader.problem("investors", "missing field; or give the holders as CSV (--holders)")
    elif not holders_apart:
        reader.investors(document["investors"])
    register.problems[:] = with_lines(text, register.problems)
    return terms
