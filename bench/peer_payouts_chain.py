"""The peer's side of the chain: the client of ours, in threads, and one watcher for all hashes.

    broadcast (thread) → final(hashes) … watcher: receipts of every open hash → futures resolved

One call for all that is open, as cheap as it can be: a poll per job would only be slower.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from mocks.chain import MockChain, MockSigner
from mocks.registry import MockRegistry
from providers.chain import (
    BroadcastRefused,
    ChainUnavailable,
    Receipt,
    SignedTransaction,
    UnsignedTransaction,
)

POLL_S = 0.05
RESEND_AFTER_POLLS = 100


class Node:
    """A node, a registry and a key, for one process of the peer."""

    def __init__(self, url: str, key: str, threads: int) -> None:
        self._chain, self._registry = MockChain(url), MockRegistry(url)
        self._signer = MockSigner(key)
        self._pool = ThreadPoolExecutor(threads)
        self._open: dict[str, tuple[SignedTransaction, asyncio.Future[Receipt]]] = {}
        self.address = self._signer.address

    def sign(self, unsigned: UnsignedTransaction) -> SignedTransaction:
        """Sign; local and deterministic."""
        return self._signer.sign(unsigned)

    async def verified(self, addresses: Sequence[str]) -> set[str]:
        """Those that are whitelisted."""
        return await self._call(self._registry.verified, addresses)

    async def settle(self, signed: Sequence[SignedTransaction]) -> list[Receipt]:
        """Broadcast bytes that are committed, and wait until all are final."""
        loop = asyncio.get_running_loop()
        futures = []
        for each in signed:
            future = self._open.setdefault(each.tx_hash, (each, loop.create_future()))[1]
            futures.append(future)
        await self._call(self._broadcast, list(signed))
        return list(await asyncio.gather(*futures))

    async def watch(self) -> None:
        """Resolve what is final, and send again what is not there for long."""
        polls = 0
        while True:
            await asyncio.sleep(POLL_S)
            polls += 1
            if not self._open:
                continue
            try:
                found = await self._call(self._final, list(self._open))
            except ChainUnavailable:
                continue  # an answer that did not come says nothing: ask again
            for tx_hash, receipt in found.items():
                assert receipt.succeeded, receipt
                self._open.pop(tx_hash)[1].set_result(receipt)
            if polls % RESEND_AFTER_POLLS == 0 and self._open:
                await self._call(self._broadcast, [signed for signed, _ in self._open.values()])

    def _broadcast(self, signed: Sequence[SignedTransaction]) -> None:
        for each in signed:
            # No answer decides anything: the watcher looks for the receipt.
            with contextlib.suppress(BroadcastRefused, ChainUnavailable):
                self._chain.broadcast(each)

    def _final(self, tx_hashes: Sequence[str]) -> dict[str, Receipt]:
        head = self._chain.head()
        receipts = self._chain.receipts(tx_hashes)
        if self._chain.block_hash(head.final_height) != head.final_hash:
            return {}
        return {h: r for h, r in receipts.items() if r.height <= head.final_height}

    async def _call(self, function, *args):  # type: ignore[no-untyped-def]
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *args)
