"""Where in a JSON text a value stands, for error messages: path → line.

A second, slower walk over a text that the standard parser has accepted already.
"""

import json
import re
from collections.abc import Collection
from dataclasses import dataclass

_PIECE = re.compile(r'[ \t\r\n]*("[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+)')


@dataclass
class _Frame:
    path: str
    index: int | None  # None in an object
    key: str | None = None

    def child(self) -> str:
        if self.index is not None:
            return f"{self.path}[{self.index}]"
        return f"{self.path}.{self.key}" if self.path else str(self.key)


def lines_of(text: str, paths: Collection[str]) -> dict[str, int]:
    """The line (from 1) on which each of `paths`, such as investors[3].name, begins."""
    found: dict[str, int] = {}
    frames: list[_Frame] = []
    line, counted = 1, 0
    position = 0
    while match := _PIECE.match(text, position):
        piece, start, position = match[1], match.start(1), match.end()
        if piece in ("}", "]"):
            frames.pop()
            continue
        if piece == ",":
            if (index := frames[-1].index) is not None:
                frames[-1].index = index + 1
            else:
                frames[-1].key = None
            continue
        if piece == ":":
            continue
        if frames and frames[-1].index is None and frames[-1].key is None:
            frames[-1].key = json.loads(piece)
            continue
        path = frames[-1].child() if frames else ""
        if path in paths:
            line, counted = line + text.count("\n", counted, start), start
            found[path] = line
        if piece in ("{", "["):
            frames.append(_Frame(path, 0 if piece == "[" else None))
    return found
