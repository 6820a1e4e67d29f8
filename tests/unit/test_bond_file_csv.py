"""Holders as CSV: the same register as in JSON, and problems by physical line."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.bond_file import BadBondFile, BondFile, Problem, read_bond_file

ADA = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
BOB = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"
HEADER = "address,token_id,balance,whitelisted,name,email\n"
TERMS = {
    "id": "UPW-2026-A",
    "name": "Upwood A",
    "contract": "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
    "token": "PLT",
    "token_decimals": 6,
    "face_value_per_token": "100.00",
    "maturity_date": "2026-11-30",
}
BOND = json.dumps({"bond": TERMS})


def read(text: str, bond: str = BOND) -> BondFile:
    return read_bond_file(bond, iter(text.splitlines(keepends=True)))


def problems(text: str, bond: str = BOND) -> list[Problem]:
    with pytest.raises(BadBondFile) as caught:
        read(text, bond)
    return caught.value.problems


def test_csv_and_json_are_the_same_register() -> None:
    rows = (
        HEADER + f"{ADA},20162,3,TRUE,Ada,\n{BOB},1,7,false,Bob,b@x.org\n{ADA},20161,12,true,Ada,\n"
    )
    ada = {
        "address": ADA,
        "name": "Ada",
        "email": "",
        "whitelisted": True,
        "holdings": [{"token_id": 20161, "balance": "12"}, {"token_id": 20162, "balance": "3"}],
    }
    bob = {
        "address": BOB,
        "name": "Bob",
        "email": "b@x.org",
        "whitelisted": False,
        "holdings": [{"token_id": 1, "balance": "7"}],
    }
    whole = read_bond_file(json.dumps({"bond": TERMS, "investors": [ada, bob]}))
    assert read(rows) == whole
    assert read(rows).digest() == whole.digest()


def test_columns_in_any_order_without_the_optional_ones_and_with_a_byte_order_mark() -> None:
    file = read(f"\ufeffbalance,address,whitelisted,token_id\r\n12,{ADA},true,5\r\n\r\n")
    assert file.investors[0].holdings == ((5, 12),)


def test_bad_rows_are_named_by_physical_line_and_column() -> None:
    found = problems(
        HEADER
        + f'{ADA},1,12,true,"Ada\nLovelace",\n'  # one row on lines 2 and 3
        + "\n"
        + f"{ADA},2,-5,true,,\n"
        + f"{ADA},1,5,yes,,\n"
        + f"{ADA},3\n"
    )
    assert [(p.line, p.field) for p in found] == [
        (2, "name"),
        (5, "balance"),
        (6, "whitelisted"),
        (6, "token_id"),
        (7, ""),
    ]
    assert found[3].reason == f"{ADA} has token 1 already, at line 2"
    assert found[4].reason == "2 cells where the header has 6"


@pytest.mark.parametrize(
    ("header", "field", "reason"),
    [
        (HEADER.replace("name", "nmae"), "'nmae'", "unknown column"),
        (HEADER.replace("balance,", ""), "balance", "missing column"),
        (HEADER.replace("name", "balance"), "balance", "appears twice"),
        (HEADER.replace(",", ";"), "'address;token_id;balance;whitelisted;name;email'", "unknown"),
        ("", "address", "missing column"),
    ],
)
def test_bad_headers(header: str, field: str, reason: str) -> None:
    first = problems(header)[0]
    assert (first.field, first.line) == (field, 1)
    assert reason in first.reason


def test_contradicting_rows_of_one_address() -> None:
    [problem] = problems(HEADER + f"{ADA},1,1,true,Ada,\n{ADA},2,1,false,Ada,\n")
    assert (problem.line, problem.field) == (3, "whitelisted")
    assert problem.reason == "False contradicts True of the same address at line 2"


def test_an_amount_too_fine_is_named_by_the_holders_first_line() -> None:
    terms = {**TERMS, "token_decimals": 0, "face_value_per_token": "0.5"}
    bond = json.dumps({"bond": terms})
    [problem] = problems(HEADER + f"{BOB},1,2,true,,\n{ADA},1,1,true,,\n{ADA},2,2,true,,\n", bond)
    assert (problem.line, problem.field) == (3, "balance")
    assert "3 x 0.5 PLT" in problem.reason


def test_an_unclosed_quote_is_named_where_it_begins() -> None:
    [problem] = problems(HEADER + f'{ADA},1,1,true,"Ada,\n' + f"{BOB},1,1,true,,\n" * 3)
    assert problem.line == 2
    assert "not CSV" in problem.reason


def test_investors_in_both_places_are_refused() -> None:
    bond = json.dumps({"bond": TERMS, "investors": []})
    assert problems(HEADER, bond)[0].field == "investors"


def test_problems_of_both_files_are_reported_together() -> None:
    bond = json.dumps({"bond": {**TERMS, "token": ""}}, indent=1)
    found = problems(HEADER + f"{ADA},1,0,true,,\n", bond)
    assert [(p.line, p.field) for p in found] == [(6, "bond.token"), (2, "balance")]


@given(st.text(max_size=300))
def test_no_text_is_ever_more_than_refused(text: str) -> None:
    for holders in (text, HEADER + text):
        with suppress(BadBondFile):
            read(holders)
    with pytest.raises(BadBondFile):
        read_bond_file(text)
