"""Holders as CSV are a stream: the same bond, the same problems, and no more memory when longer."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from eth_utils.address import to_checksum_address

from domain.bond_file import BadBondFile, read_bond_file
from models.database import execute, fetch
from usecases.bonds import import_bond, show_bond

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("database")]

HEADER = "address,token_id,balance,whitelisted,name,email"
HOLDERS = 20_000

#: One import in a process of its own, whose peak of memory is its last line.
MEASURE = """
import resource, sys
from models.database import connect_to
from usecases.bonds import import_bond
connect_to(sys.argv[1])
import_bond(open(sys.argv[2]).read(), open(sys.argv[3], newline=""))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def terms(**changes: object) -> str:
    bond = {
        "id": "S-1",
        "name": "Streamed",
        "contract": str(to_checksum_address("0x" + "ab" * 20)),
        "token": "PLT",
        "token_decimals": 6,
        "face_value_per_token": "100.25",
        "maturity_date": "2026-01-31",
    }
    return json.dumps({"bond": bond | changes})


def address(number: int) -> str:
    return str(to_checksum_address(f"0x{number:040x}"))


def lines(seed: int, count: int, wrong_percent: int) -> list[str]:
    """Rows of few addresses in any order, some of them wrong in some way."""
    source = random.Random(seed)
    made = [HEADER]
    for number in range(count):
        token = source.randrange(count * 2) if wrong_percent else count - number
        who = source.randrange(1, max(2, count // 3))
        cells = [
            address(who), str(token), str(source.randint(1, 9)),
            "true" if who % 3 else "false", f"Holder {who}, \\ ünï", "",
        ]  # fmt: skip
        if source.randrange(100) < wrong_percent:
            wrong = ("0xbad", "x", "0", "maybe", "Somebody else", "no email")
            at = source.randrange(len(cells))
            cells[at] = wrong[at]
        cells[4] = f'"{cells[4]}"'
        made.append(",".join(cells))
    return [line + "\n" for line in made]


@pytest.mark.parametrize("wrong_percent", [0, 3, 40])
def test_the_stream_finds_what_the_register_in_memory_finds(wrong_percent: int) -> None:
    for seed in range(20):
        text = terms(token_decimals=6 if seed % 2 else 1)  # with one decimal 100.25 is too fine
        rows = lines(seed, 60, wrong_percent)
        expected: object
        try:
            file = read_bond_file(text, rows)
            expected = (file.digest(), len(file.investors), file.tokens)
        except BadBondFile as error:
            expected = error.problems
        found: object
        try:
            imported = import_bond(text, rows)
            found = (imported.digest, imported.holders, imported.tokens)
            assert imported.file == file
        except BadBondFile as error:
            found = error.problems
            assert fetch("SELECT count(*) FROM bond") == [(0,)]
        assert found == expected, seed
        assert fetch("SELECT to_regclass('bond_row')") == [(None,)]
        execute("DELETE FROM bond")


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        (terms(id="no id"), [HEADER + "\n"]),
        (terms(), [HEADER + ",age\n"]),
        (terms(), []),
        (terms(), [HEADER + "\n", '"\n']),
        (json.dumps({"bond": json.loads(terms())["bond"], "investors": []}), [HEADER + "\n"]),
        ("{}", [HEADER + "\n", "0xbad\n"]),
    ],
    ids=["terms", "column", "empty", "quote", "both", "no bond"],
)
def test_what_is_wrong_with_the_files_as_such(text: str, rows: list[str]) -> None:
    with pytest.raises(BadBondFile) as expected:
        read_bond_file(text, rows)
    with pytest.raises(BadBondFile) as found:
        import_bond(text, rows)
    assert found.value.problems == expected.value.problems


def test_json_and_csv_of_the_same_content_are_the_same_bond() -> None:
    rows = lines(1, 60, 0)
    streamed = import_bond(terms(), rows)
    investors = [
        {
            "address": who.address,
            "name": who.name,
            "whitelisted": who.whitelisted,
            "holdings": [{"token_id": t, "balance": str(b)} for t, b in who.holdings],
        }
        for who in streamed.file.investors
    ]
    whole = json.dumps(json.loads(terms()) | {"investors": investors})
    again = import_bond(whole)
    assert (again.outcome, again.digest) == ("unchanged", streamed.digest)
    assert import_bond(terms(), [rows[0], *reversed(rows[1:])]).outcome == "unchanged"
    changed = [rows[0], *rows[2:]]
    assert import_bond(terms(), changed).outcome == "replaced"
    assert show_bond("S-1").summary.tokens == import_bond(terms(), changed).tokens


def test_an_import_that_fails_in_the_middle_of_the_file_leaves_nothing() -> None:
    def broken() -> Iterator[str]:
        yield from lines(1, 30, 0)
        raise OSError("the disk went away")

    with pytest.raises(OSError, match="disk"):
        import_bond(terms(), broken())
    assert fetch("SELECT count(*) FROM bond") == [(0,)]
    assert import_bond(terms(), lines(1, 30, 0)).outcome == "imported"
    execute("SELECT 1")


def test_twenty_times_the_holders_take_little_more_memory(
    database: str, tmp_path: Path, project: Path
) -> None:
    peaks = []
    (tmp_path / "bond.json").write_text(terms())
    for count in (HOLDERS // 20, HOLDERS):
        with (tmp_path / "holders.csv").open("w") as csv:
            csv.write(HEADER + "\n")
            for number in range(1, count + 1):
                csv.write(f"{address(number)},20000,5,true,Holder {number},\n")
        arguments = [database, str(tmp_path / "bond.json"), str(tmp_path / "holders.csv")]
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, *arguments],
            cwd=project, env=dict(os.environ), capture_output=True, text=True, check=True,
        )  # fmt: skip
        peaks.append(int(done.stdout.split()[-1]) / 1024)
    assert show_bond("S-1").summary.holders == HOLDERS
    assert peaks[1] - peaks[0] < 20, f"{peaks} MB"  # in memory it would be about 45
