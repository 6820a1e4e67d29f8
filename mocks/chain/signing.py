"""Keys, signatures and hashes of the mock chain.

    key → public → address; transaction → signature → raw → hash, all before anything is sent

Any change to the bytes is noticed. It is not cryptography: the public part can forge.
"""

import hashlib
import json
from functools import lru_cache

from eth_utils.address import is_checksum_address, to_checksum_address
from eth_utils.crypto import keccak

from providers.chain import BroadcastRefused, SignedTransaction, UnsignedTransaction

#: What stands before the transaction's canonical text inside the signed bytes.
_BODY = ',"transaction":'


def _public(key: str) -> bytes:
    return bytes(keccak(keccak(text=key)))


def _address(public: bytes) -> str:
    return str(to_checksum_address(keccak(public)[-20:]))


def _signature(public: bytes, text: str) -> str:
    return "0x" + keccak(public + hashlib.sha256(text.encode()).digest()).hex()


def _encode(public: bytes, text: str) -> bytes:
    """The bytes of a transaction whose canonical text this is."""
    head = f'{{"public":"0x{public.hex()}","signature":"{_signature(public, text)}"'
    return f"{head}{_BODY}{text}}}".encode()


def hash_of(data: bytes) -> str:
    """Keccak-256 as 0x and 64 hex digits."""
    return "0x" + keccak(data).hex()


def address_of(key: str) -> str:
    """The checksummed address that `key` signs for; also a source of addresses for tests."""
    return _address(_public(key))


@lru_cache(maxsize=65_536)
def is_address(text: str) -> bool:
    """Whether `text` is an address with its EIP-55 checksum."""
    return is_checksum_address(text)


class MockSigner:
    """A wallet's key in memory. Implements `providers.chain.Signer`."""

    def __init__(self, key: str) -> None:
        self._public = _public(key)
        self._address = _address(self._public)

    def __repr__(self) -> str:
        return f"MockSigner({self._address})"

    @property
    def address(self) -> str:
        """The wallet's checksummed address."""
        return self._address

    def sign(self, transaction: UnsignedTransaction) -> SignedTransaction:
        """Sign; raises ValueError when `transaction.sender` is another address."""
        if transaction.sender != self._address:
            raise ValueError(f"{self._address} can't sign for {transaction.sender}")
        raw = _encode(self._public, transaction.to_json())
        return SignedTransaction(hash_of(raw), raw)


def decode(signed: SignedTransaction) -> UnsignedTransaction:
    """What a node reads from the bytes. Raises BroadcastRefused when anything was altered."""
    if hash_of(signed.raw) != signed.tx_hash:
        raise BroadcastRefused("transaction hash does not match its bytes")
    try:
        head, body = signed.raw.decode().split(_BODY, 1)
        public = bytes.fromhex(json.loads(head + "}")["public"].removeprefix("0x"))
        transaction = UnsignedTransaction.from_json(body[:-1])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BroadcastRefused("malformed transaction") from None
    if _address(public) != transaction.sender:
        raise BroadcastRefused("invalid sender")
    if _encode(public, transaction.to_json()) != signed.raw:
        raise BroadcastRefused("invalid signature")
    return transaction


def body_of(raw: bytes) -> UnsignedTransaction:
    """The transaction inside bytes that were checked when they were accepted."""
    return UnsignedTransaction.from_json(raw.decode().split(_BODY, 1)[1][:-1])
