"""Scripted faults: which call of which provider gets a refusal, garbage, or nothing.

    MOCK_FAULTS, or faults.json in the folder → rules → meet(call) → what the transport answers

Each fault is an answer as the real provider gives it, so the real classifier judges it. A rate is
drawn from the seed, the call and its ordinal: the same in every order of threads.
"""

import json
import random
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from domain.errors import InvalidInput
from providers.answers import NoAnswer, RawAnswer

FAULTS_FILE = "faults.json"
ANY = "*"


class Fault(StrEnum):
    """What happens instead of an answer."""

    QUOTA = "quota"
    QUOTA_KEY_ECHO = "quota_key_echo"  # its text repeats our key
    BURST = "burst"
    STATUS_500 = "500"
    STATUS_429 = "429"  # with Retry-After
    TIMEOUT = "timeout"
    MALFORMED = "malformed"  # the true answer, cut in the middle
    EMPTY = "empty"
    NOT_ENTITLED = "not_entitled"
    NOT_FOUND = "not_found"
    AUTH = "auth"


@dataclass(frozen=True)
class FaultRule:
    """One rule. "*" is any; without `nth` and `rate`, every call that it names is struck."""

    fault: Fault
    provider: str = ANY
    endpoint: str = ANY
    symbol: str = ANY
    nth: int | None = None  # only the n-th call that the rule names, from 1
    times: int | None = None  # at most so many
    rate: float | None = None
    seed: int = 0
    retry_after_s: int | None = None

    @classmethod
    def from_json(cls, found: Any) -> "FaultRule":
        """Raises InvalidInput that names what is wrong."""
        known = [field.name for field in fields(cls)]
        if not isinstance(found, dict) or not found.keys() <= set(known):
            raise InvalidInput(f"MOCK_FAULTS: each rule is an object of {', '.join(known)}")
        try:
            rule = cls(**{**found, "fault": Fault(str(found.get("fault")))})
        except (TypeError, ValueError):
            raise InvalidInput(f"MOCK_FAULTS: fault is one of {', '.join(Fault)}") from None
        for name in ("nth", "times", "retry_after_s"):
            value = getattr(rule, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise InvalidInput(f"MOCK_FAULTS: {name} is a whole number from 1, not {value!r}")
        if rule.rate is not None and not (
            isinstance(rule.rate, int | float) and 0 <= rule.rate <= 1
        ):
            raise InvalidInput(f"MOCK_FAULTS: rate is between 0 and 1, not {rule.rate!r}")
        return rule

    def names(self, provider: str, endpoint: str, symbol: str | None) -> bool:
        """Whether the rule is about this call."""
        return (
            self.provider in (ANY, provider)
            and self.endpoint in (ANY, endpoint)
            and self.symbol in (ANY, symbol or "")
        )


def read_rules(text: str) -> list[FaultRule]:
    """MOCK_FAULTS, or the file: a JSON list of rules. Raises InvalidInput."""
    try:
        found = json.loads(text) if text.strip() else []
    except ValueError as error:
        raise InvalidInput(f"MOCK_FAULTS: not JSON: {error}") from None
    if not isinstance(found, list):
        raise InvalidInput("MOCK_FAULTS: expected a list of rules")
    return [FaultRule.from_json(rule) for rule in found]


class Faults:
    """The rules of one provider. With a folder, its faults.json is read again when it changes."""

    def __init__(self, rules: Sequence[FaultRule] = (), folder: Path | None = None) -> None:
        self._given = list(rules)
        self._file = folder / FAULTS_FILE if folder else None
        self._stamp: tuple[int, int] | None = None
        self._from_file: list[FaultRule] = []
        self._calls: Counter[Any] = Counter()
        self._struck: Counter[FaultRule] = Counter()
        self._lock = threading.Lock()

    def meet(self, provider: str, endpoint: str, symbol: str | None) -> FaultRule | None:
        """The rule that strikes this call, if one does; counts the call."""
        with self._lock:
            self._reread()
            struck = None
            for rule in (*self._given, *self._from_file):
                if not rule.names(provider, endpoint, symbol):
                    continue
                self._calls[rule] += 1
                self._calls[rule, endpoint, symbol] += 1
                if struck is None and self._strikes(rule, endpoint, symbol):
                    self._struck[rule] += 1
                    struck = rule
            return struck

    def _strikes(self, rule: FaultRule, endpoint: str, symbol: str | None) -> bool:
        if rule.times is not None and self._struck[rule] >= rule.times:
            return False
        if rule.nth is not None and self._calls[rule] != rule.nth:
            return False
        if rule.rate is None:
            return True
        ordinal = self._calls[rule, endpoint, symbol]
        draw = random.Random(f"{rule.seed}:{endpoint}:{symbol}:{ordinal}")  # noqa: S311 - replayable
        return draw.random() < rule.rate

    def _reread(self) -> None:
        if self._file is None:
            return
        try:
            status = self._file.stat()
        except FileNotFoundError:
            self._stamp, self._from_file = None, []
            return
        stamp = (status.st_mtime_ns, status.st_ino)
        if stamp != self._stamp:
            self._from_file, self._stamp = read_rules(self._file.read_text("utf-8")), stamp


def faulty(rule: FaultRule, true_body: bytes, secret: str) -> RawAnswer:
    """The answer that the fault gives. Raises NoAnswer for a timeout."""
    fault = rule.fault
    if fault is Fault.TIMEOUT:
        raise NoAnswer(f"timed out after 10 s: https://mock.invalid/query?apikey={secret}")
    if fault is Fault.STATUS_500:
        return RawAnswer(b"<html>Internal Server Error</html>", status=500)
    if fault is Fault.STATUS_429:
        return RawAnswer(b"", 429, timedelta(seconds=rule.retry_after_s or 60))
    if fault is Fault.MALFORMED:
        return RawAnswer(true_body[: len(true_body) // 2] or b"<")
    if fault is Fault.EMPTY:
        return RawAnswer(_emptied(true_body))
    if fault is Fault.NOT_FOUND:
        return RawAnswer(b"{}")
    key, told = _SENTENCES[fault]
    return RawAnswer(json.dumps({key: told.replace("KEY", secret)}).encode())


def _emptied(body: bytes) -> bytes:
    """The same shape without its rows."""
    try:
        found = json.loads(body)
    except ValueError:
        return body.partition(b"\n")[0] + b"\n"  # a CSV's header
    if not isinstance(found, dict):
        return b"{}"
    kept = {key: value for key, value in found.items() if not isinstance(value, list | dict)}
    bare = {key: type(value)() for key, value in found.items() if key not in kept}
    return json.dumps(kept | bare if bare else {}).encode()


_SENTENCES = {
    Fault.QUOTA: (
        "Information",
        "Our standard API rate limit is 25 requests per day. Subscribe to a premium plan to"
        " remove all daily rate limits.",
    ),
    Fault.QUOTA_KEY_ECHO: (
        "Information",
        "We have detected your API key as KEY and our standard API rate limit is 25 requests"
        " per day.",
    ),
    Fault.BURST: (
        "Information",
        "Please consider spreading out your free API requests more sparingly (1 request per"
        " second). A premium plan lifts the free key rate limit (25 requests per day).",
    ),
    Fault.NOT_ENTITLED: ("Information", "This is a premium endpoint. Subscribe to unlock it."),
    Fault.AUTH: ("Error Message", "the parameter apikey is invalid or missing."),
}
