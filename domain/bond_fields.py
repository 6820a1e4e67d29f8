"""The fields of a bond file, one check each: text in, a value or a reason in plain words out.

Numbers arrive as the text that stood in the file and never pass through a float.
"""

import re
from datetime import date
from decimal import Decimal
from functools import lru_cache

from eth_utils.address import is_hex_address, to_checksum_address

#: A uint256, which is what a token contract and the `units` columns can hold.
MAX_UNITS = 2**256 - 1

#: 9999-12-31 as days since 1970-01-01: token ids are the day a token was minted.
MAX_TOKEN_ID = 2_932_896

MAX_TEXT_LENGTH = 200
MAX_EMAIL_LENGTH = 254
MAX_TOKEN_DECIMALS = 36
MAX_FACE_VALUE = Decimal(10) ** 30
MAX_FACE_VALUE_PLACES = 36

_WHOLE = re.compile(r"-?[0-9]{1,100}")
_DECIMAL = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,60})?")
_BOND_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,15}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_EMAIL = re.compile(r"[^@\s,;<>]+@[^@\s,;<>.]+(\.[^@\s,;<>.]+)+")
#: Control characters and lone surrogates: PostgreSQL refuses some, terminals obey others.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]")


class BadField(ValueError):
    """A field's value is wrong; the text is the reason, for people."""


@lru_cache(maxsize=50_000)  # rows of one holder are mostly neighbours
def address(text: str) -> str:
    """A 20-byte address with its EIP-55 checksum."""
    if not is_hex_address(text) or not text.startswith("0x"):
        raise BadField(f"{_quoted(text)} is not an address: 0x and 40 hex digits are expected")
    correct = str(to_checksum_address(text))
    if text == correct:
        if int(text, 16) == 0:
            raise BadField("the zero address belongs to nobody")
        return text
    digits = text[2:]
    if digits in (digits.lower(), digits.upper()):
        raise BadField(f"{text} has no EIP-55 checksum; with it: {correct}")
    raise BadField(f"{text} has a wrong EIP-55 checksum: a digit is mistyped, or it is {correct}")


def whole(text: str, highest: int) -> int:
    """A number from 0 to `highest`, in plain digits."""
    if not _WHOLE.fullmatch(text):
        if _DECIMAL.fullmatch(text):
            raise BadField(f"{text} is fractional: whole numbers only")
        raise BadField(f"{_quoted(text)} is not a whole number in plain digits")
    number = int(text)
    if number < 0:
        raise BadField(f"{text} is negative")
    if number > highest:
        raise BadField(f"{text} is too large: at most {highest}")
    return number


def balance(text: str) -> int:
    """How many bond tokens: at least one."""
    number = whole(text, MAX_UNITS)
    if number == 0:
        raise BadField("a holding of zero tokens: leave it out")
    return number


def token_id(text: str) -> int:
    """The day the token was minted, as days since 1970-01-01."""
    return whole(text, MAX_TOKEN_ID)


def token_decimals(text: str) -> int:
    """How many decimal places the payment token has."""
    return whole(text, MAX_TOKEN_DECIMALS)


def face_value(text: str) -> Decimal:
    """What one bond token pays, in payment tokens: exact and positive, without trailing zeros."""
    if not _DECIMAL.fullmatch(text):
        raise BadField(f"{_quoted(text)} is not an amount such as 100.00")
    whole_part, _, fraction = text.partition(".")
    fraction = fraction.rstrip("0")
    value = Decimal(f"{whole_part}.{fraction}" if fraction else whole_part)
    if value <= 0:
        raise BadField(f"{text} is not positive")
    if value > MAX_FACE_VALUE or len(fraction) > MAX_FACE_VALUE_PLACES:
        raise BadField(f"{text} is too large or too fine")
    return value


def day(text: str) -> date:
    """A calendar day, YYYY-MM-DD."""
    try:
        if _DATE.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise BadField(f"{_quoted(text)} is not a date: YYYY-MM-DD is expected")


def bond_id(text: str) -> str:
    """The bond's name on command lines."""
    if not _BOND_ID.fullmatch(text):
        raise BadField(
            f"{_quoted(text)}: 1 to 64 letters, digits, dots, dashes or underscores are expected"
        )
    return text


def token(text: str) -> str:
    """The payment token's symbol."""
    if not _TOKEN.fullmatch(text):
        raise BadField(f"{_quoted(text)} is not a token's symbol such as PLT")
    return text


def free_text(text: str) -> str:
    """A name, as people write it, on one line."""
    if _UNPRINTABLE.search(text):
        raise BadField("has a control character or a broken one")
    if len(text) > MAX_TEXT_LENGTH:
        raise BadField(f"is longer than {MAX_TEXT_LENGTH} characters")
    return text.strip()


def required_text(text: str) -> str:
    """`free_text` that is not empty."""
    if not (name := free_text(text)):
        raise BadField("is empty")
    return name


def email(text: str) -> str:
    """An email address's form, or nothing."""
    if not (written := free_text(text)):
        return ""
    if not _EMAIL.fullmatch(written) or len(written) > MAX_EMAIL_LENGTH:
        raise BadField(f"{_quoted(written)} is not an email address")
    return written


def flag(text: str) -> bool:
    """The word true or false."""
    match text.strip().lower():
        case "true":
            return True
        case "false":
            return False
    raise BadField(f"{_quoted(text)} is neither true nor false")


def _quoted(text: str) -> str:
    shown = ascii(text[:60])
    return shown + "…" if len(text) > 60 else shown
