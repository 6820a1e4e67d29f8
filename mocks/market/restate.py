"""Restate a company in a golden copy: its second version of some files becomes the current one.

SYMBOL/restated/*.json → SYMBOL/*.json, each replaced whole

A test copies the golden copy first: the project's own stays as it is.
"""

import shutil
from pathlib import Path

from domain.errors import NotFound
from mocks.market.folder import GOLDEN


def restate(folder: Path, symbol: str) -> list[str]:
    """Replace the files; returns their names. Raises NotFound where no restatement is kept."""
    if folder.resolve() == GOLDEN.resolve():
        raise ValueError("restate a copy: the project's golden copy stays as it is")
    found = sorted((folder / symbol / "restated").glob("*.json"))
    if not found:
        raise NotFound(f"{folder / symbol} has no folder `restated` with files")
    for file in found:
        fresh = folder / symbol / f".{file.name}"
        shutil.copyfile(file, fresh)
        fresh.replace(folder / symbol / file.name)
    return [file.name for file in found]
