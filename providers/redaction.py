"""Take secrets out of text that comes from outside, before it reaches an error, a log or a row.

    an answer's text, an address, an error → redact → what may be kept

A provider may repeat our key in its answer, and HTTP libraries put whole addresses into errors.
"""

import re
from collections.abc import Iterable

HIDDEN = "***"

_IN_ADDRESS = re.compile(r"(?i)\b((?:api[_-]?key|token|password|secret)=)[^&\s\"'<>]+")
_ECHOED = re.compile(r"(?i)\b(api[ _-]?key (?:as|is:?|=) ?[\"']?)(?!invalid|missing)[\w-]+")
_USER_INFO = re.compile(r"(://)[^/\s@]+@")


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` without `secrets`, and without what stands where a key would stand."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = re.sub(re.escape(secret), HIDDEN, text, flags=re.IGNORECASE)
    text = _USER_INFO.sub(rf"\1{HIDDEN}@", text)
    text = _IN_ADDRESS.sub(rf"\1{HIDDEN}", text)
    return _ECHOED.sub(rf"\1{HIDDEN}", text)


def clip(text: str, most: int = 300) -> str:
    """`text` in one line of at most `most` characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"
