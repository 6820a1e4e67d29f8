"""Download one document: chunks to a temporary file, then in place under its hash, or not at all.

    provider.open → chunks → size and time limits → temporary file, sha256 → fsync → rename

What is under DOCUMENTS_PATH is whole. A download that fails, is too large or too slow leaves
nothing; what a killed process left is swept by `sweep_partial`.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

from domain.errors import Rejected

PARTIAL_PREFIX = ".partial-"

#: A partial file that is older belongs to nobody any more.
PARTIAL_AGE_S = 24 * 3_600


@dataclass(frozen=True)
class DownloadLimits:
    """The most that one document may take."""

    max_bytes: int = 50 * 1_000_000
    max_s: float = 120.0


@dataclass(frozen=True)
class Downloaded:
    """A whole file. `file`: its path below the folder, named by its content."""

    file: str
    sha256: str
    size_bytes: int


class TooLarge(Rejected):
    """The document has more bytes than are allowed; DOCUMENT_MAX_MB raises the limit."""


class TooSlow(Rejected):
    """The document took longer than is allowed; DOCUMENT_MAX_S raises the limit."""


class NothingThere(Rejected):
    """The document has no byte."""


def download(
    stream: AbstractContextManager[Iterator[bytes]],
    folder: Path,
    limits: DownloadLimits,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Downloaded:
    """Read the stream to its end into `folder`. The same content is the same file.

    Raises:
        TooLarge, TooSlow, NothingThere: and nothing is kept.
        ProviderFailure: the stream broke off.
    """
    folder.mkdir(parents=True, exist_ok=True)
    give_up_at = clock() + limits.max_s
    digest, size = hashlib.sha256(), 0
    with NamedTemporaryFile(dir=folder, prefix=PARTIAL_PREFIX, delete=False) as file:
        partial = Path(file.name)
        try:
            with stream as chunks:
                for chunk in chunks:
                    size += len(chunk)
                    if size > limits.max_bytes:
                        raise TooLarge(f"more than {limits.max_bytes} bytes (DOCUMENT_MAX_MB)")
                    if clock() > give_up_at:
                        raise TooSlow(f"took longer than {limits.max_s:g} s (DOCUMENT_MAX_S)")
                    digest.update(chunk)
                    file.write(chunk)
            if size == 0:
                raise NothingThere("an empty document")
            file.flush()
            os.fsync(file.fileno())
            name = digest.hexdigest()
            place = folder / name[:2] / name
            place.parent.mkdir(exist_ok=True)
            partial.replace(place)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    _sync(place.parent)
    return Downloaded(f"{name[:2]}/{name}", name, size)


def sweep_partial(folder: Path, *, older_than_s: float = PARTIAL_AGE_S) -> int:
    """Remove what killed downloads left; returns how many files."""
    swept = 0
    for partial in folder.glob(f"{PARTIAL_PREFIX}*"):
        if partial.stat().st_mtime < time.time() - older_than_s:
            partial.unlink(missing_ok=True)
            swept += 1
    return swept


def _sync(folder: Path) -> None:
    """The rename survives a loss of power, too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
