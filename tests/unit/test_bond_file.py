"""bond.json: what is accepted, what every refusal says, and what the digest ignores."""

import json
from typing import Any

import pytest

from domain.bond_file import BadBondFile, Problem, read_bond_file

ADA = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
BOB = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"
CONTRACT = "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB"


def bond(**changes: Any) -> dict[str, Any]:
    terms = {
        "id": "UPW-2026-A",
        "name": "Upwood A",
        "contract": CONTRACT,
        "token": "PLT",
        "token_decimals": 6,
        "face_value_per_token": "100.00",
        "maturity_date": "2026-11-30",
    }
    return terms | changes


def investor(address: str = ADA, **changes: Any) -> dict[str, Any]:
    row = {
        "address": address,
        "name": "Ada",
        "email": "ada@example.org",
        "whitelisted": True,
        "holdings": [{"token_id": 20161, "balance": "12"}],
    }
    return row | changes


def document(*investors: dict[str, Any], **terms: Any) -> str:
    return json.dumps({"bond": bond(**terms), "investors": list(investors)}, indent=1)


def problems(text: str) -> list[Problem]:
    with pytest.raises(BadBondFile) as caught:
        read_bond_file(text)
    return caught.value.problems


def only_problem(text: str) -> Problem:
    [problem] = problems(text)
    return problem


def test_a_good_file_is_read_exactly() -> None:
    holdings = [{"token_id": 20162, "balance": 3}, {"token_id": 20161, "balance": "12"}]
    file = read_bond_file(document(investor(BOB), investor(ADA, holdings=holdings)))
    assert [who.address for who in file.investors] == [ADA, BOB]
    assert file.investors[0].holdings == ((20161, 12), (20162, 3))
    assert (file.tokens, file.total_units) == (27, 2_700_000_000)
    assert file.terms.maturity_date.isoformat() == "2026-11-30"


def test_order_white_space_and_trailing_zeros_do_not_change_the_digest() -> None:
    first = json.dumps({"bond": bond(), "investors": [investor(ADA), investor(BOB)]}, indent=3)
    turned = {
        "investors": [dict(reversed(investor(BOB).items())), investor(ADA)],
        "bond": bond(face_value_per_token="100"),
    }
    assert read_bond_file(first).digest() == read_bond_file(json.dumps(turned)).digest()


@pytest.mark.parametrize(
    "changed",
    [
        document(investor(name="Eve")),
        document(investor(whitelisted=False)),
        document(investor(holdings=[{"token_id": 20161, "balance": "13"}])),
        document(investor(), face_value_per_token="100.01"),
        document(investor(), maturity_date="2026-12-01"),
        document(investor(), investor(BOB)),
    ],
)
def test_every_change_of_content_changes_the_digest(changed: str) -> None:
    assert read_bond_file(changed).digest() != read_bond_file(document(investor())).digest()


def test_numbers_never_pass_through_a_float() -> None:
    text = document(investor()).replace('"100.00"', "0.1234567890123456789")
    terms = read_bond_file(text.replace('"token_decimals": 6', '"token_decimals": 19')).terms
    assert str(terms.face_value_per_token) == "0.1234567890123456789"
    assert only_problem(document(investor()).replace('"12"', "1e400")).reason.startswith("'1e400'")
    assert only_problem(document(investor()).replace('"12"', "NaN")).reason.startswith("'NaN'")


def test_a_wrong_checksum_shows_the_right_one_and_its_line() -> None:
    wrong = ADA.replace("aA", "AA")
    text = document(investor(BOB), investor(wrong))
    problem = only_problem(text)
    assert problem.field == "investors[1].address"
    assert text.splitlines()[problem.line or 0] != ""
    assert wrong in text.splitlines()[(problem.line or 0) - 1]
    assert ADA in problem.reason
    assert ADA in only_problem(document(investor(ADA.lower()))).reason


@pytest.mark.parametrize(
    "address", ["0x12", "", "x" * 42, ADA[2:], "0X" + ADA[2:], "0x" + "0" * 40]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    assert only_problem(document(investor(address))).field == "investors[0].address"


@pytest.mark.parametrize(
    ("balance", "reason"),
    [
        ("-5", "negative"),
        ("1.5", "fractional"),
        ("0", "zero tokens"),
        ("twelve", "not a whole number"),
        ("1e3", "not a whole number"),
        ("٣", "not a whole number"),
        (" 1", "not a whole number"),
        ("9" * 90, "too large"),
        (None, "a text is expected, not null"),
        (True, "a text is expected, not true or false"),
        ([], "a text is expected, not a list"),
        ({}, "a text is expected, not an object"),
    ],
)
def test_bad_balances(balance: object, reason: str) -> None:
    problem = only_problem(document(investor(holdings=[{"token_id": 20161, "balance": balance}])))
    assert problem.field == "investors[0].holdings[0].balance"
    assert reason in problem.reason


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"id": "no spaces"}, "bond.id"),
        ({"name": " "}, "bond.name"),
        ({"name": "bell\x07"}, "bond.name"),
        ({"name": "half \ud83d"}, "bond.name"),
        ({"name": 5}, "bond.name"),
        ({"contract": CONTRACT.lower()}, "bond.contract"),
        ({"token": ""}, "bond.token"),
        ({"token_decimals": 37}, "bond.token_decimals"),
        ({"token_decimals": -1}, "bond.token_decimals"),
        ({"face_value_per_token": "0.00"}, "bond.face_value_per_token"),
        ({"face_value_per_token": "-1"}, "bond.face_value_per_token"),
        ({"face_value_per_token": "1,5"}, "bond.face_value_per_token"),
        ({"maturity_date": "2026-02-30"}, "bond.maturity_date"),
        ({"maturity_date": "30.11.2026"}, "bond.maturity_date"),
        ({"maturity_date": "20261130"}, "bond.maturity_date"),
        ({"coupon": 1}, "bond.coupon"),
    ],
)
def test_bad_terms(change: dict[str, object], field: str) -> None:
    assert only_problem(document(investor(), **change)).field == field


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"email": "not an address"}, "email"),
        ({"email": "a@b"}, "email"),
        ({"whitelisted": "true"}, "whitelisted"),
        ({"whitelisted": None}, "whitelisted"),
        ({"nick": "A"}, "nick"),
        ({"holdings": []}, "holdings"),
        ({"holdings": {}}, "holdings"),
        ({"holdings": [5]}, "holdings[0]"),
        ({"holdings": [{"token_id": "x", "balance": "1"}]}, "holdings[0].token_id"),
        ({"holdings": [{"token_id": 9_999_999, "balance": "1"}]}, "holdings[0].token_id"),
        ({"holdings": [{"token_id": 1}]}, "holdings[0].balance"),
    ],
)
def test_bad_investors(change: dict[str, Any], field: str) -> None:
    problem = only_problem(document(investor(**change)))
    assert problem.field == f"investors[0].{field}"
    assert problem.line


def test_missing_and_repeated_fields() -> None:
    row = investor()
    del row["whitelisted"]
    assert only_problem(document(row)).reason == "missing field"
    twice = document(investor()).replace('"whitelisted"', '"name": "Eve", "whitelisted"')
    assert only_problem(twice).reason == "this field appears twice"
    assert only_problem(json.dumps({"bond": bond()})).field == "investors"
    assert {p.field for p in problems("{}")} == {"bond", "investors"}


def test_name_and_email_may_be_missing() -> None:
    row = investor()
    del row["name"], row["email"]
    [who] = read_bond_file(document(row)).investors
    assert (who.name, who.email) == ("", "")


def test_a_position_may_appear_once_and_details_must_not_contradict() -> None:
    twice = investor(holdings=[{"token_id": 1, "balance": "1"}, {"token_id": 1, "balance": "2"}])
    assert (
        "has token 1 already, at investors[0].holdings[0]" in only_problem(document(twice)).reason
    )
    more = investor(name="Eve", whitelisted=False, holdings=[{"token_id": 7, "balance": "1"}])
    found = problems(document(investor(), more))
    assert [p.field for p in found] == ["investors[1].whitelisted", "investors[1].name"]
    assert "contradicts 'Ada'" in found[1].reason


def test_an_amount_too_fine_for_the_token_is_refused() -> None:
    fine = document(investor(), token_decimals=0, face_value_per_token="0.125")
    problem = only_problem(fine)
    assert problem.field == "investors[0]"
    assert "12 x 0.125 PLT" in problem.reason
    assert "0 decimals" in problem.reason
    whole = investor(holdings=[{"token_id": 1, "balance": "3"}, {"token_id": 2, "balance": "5"}])
    assert read_bond_file(
        document(whole, token_decimals=0, face_value_per_token="0.125")
    ).total_units == 1  # fmt: skip


def test_an_amount_beyond_a_uint256_is_refused() -> None:
    huge = [{"token_id": 1, "balance": str(2**255)}]
    assert "uint256" in problems(document(investor(holdings=huge)))[0].reason


def test_every_problem_is_reported_and_the_message_is_capped() -> None:
    rows = [investor(holdings=[{"token_id": 1, "balance": "-1"}]) for _ in range(80)]
    with pytest.raises(BadBondFile) as caught:
        read_bond_file(document(*rows))
    assert len(caught.value.problems) == 159  # 80 negative, 79 positions repeated
    message = str(caught.value)
    assert message.startswith("159 problems, nothing was imported:\n  line ")
    assert message.endswith("… and 109 more")
    assert len(message.splitlines()) == 52


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "5", "null", "[" * 100_000, '{"bond": 1, }', "\x00"]
)
def test_what_is_not_a_bond_file_is_refused_with_a_reason(text: str) -> None:
    assert problems(text)


def test_lines_are_found_in_awkward_texts() -> None:
    text = document(investor(name='quote " and [brace {', email="x"))
    problem = only_problem("\ufeff" + text.replace("\n", "\r\n"))
    assert '"email"' in text.splitlines()[(problem.line or 0) - 1]
