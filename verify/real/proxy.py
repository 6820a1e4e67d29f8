"""A TCP proxy that can do what networks do: cut, swallow, delay, and lose only the answers.

    client → listener → upstream, each direction with back-pressure; one event loop in one thread

Bytes are never changed or reordered. A black hole ends with every connection cut, or with its bytes
delivered late, as retransmission does.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, TypeVar

from servers.ports import free_port

Result = TypeVar("Result")

#: A connection to a server that is away is refused at once; only a stopped machine takes this long.
CONNECT_TIMEOUT_S = 5.0

#: How long the proxy's own thread may take for an order: it never waits for anybody's answer.
ORDER_TIMEOUT_S = 10.0


class _Half(asyncio.Protocol):
    """One end of a proxied connection; what arrives here leaves at `other`."""

    def __init__(self, proxy: "Proxy", faces_client: bool) -> None:
        self.proxy = proxy
        self.faces_client = faces_client
        self.other: _Half | None = None
        self.transport: asyncio.Transport | None = None
        self._late: deque[tuple[float, bytes]] = deque()
        self._congested = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.proxy.halves.add(self)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.faces_client:
            transport.pause_reading()
            self.proxy.spawn(self._connect())
        else:
            self.apply()

    async def _connect(self) -> None:
        assert self.transport is not None
        peer = _Half(self.proxy, faces_client=False)
        peer.other = self
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await loop.create_connection(lambda: peer, "127.0.0.1", self.proxy.target())
        except OSError:
            self.transport.abort()
            return
        self.other = peer
        if self.transport.is_closing() and peer.transport is not None:  # cut while connecting
            peer.transport.abort()
        self.apply()

    def data_received(self, data: bytes) -> None:
        delay_s = self.proxy.delay_s
        if delay_s or self._late:
            loop = asyncio.get_running_loop()
            at = loop.time() + delay_s
            if self._late:
                at = max(at, self._late[-1][0])  # bytes keep their order when a delay ends
            self._late.append((at, data))
            loop.call_at(at, self._forward_late)
        else:
            self._forward(data)

    def _forward_late(self) -> None:
        if self._late:
            self._forward(self._late.popleft()[1])

    def _forward(self, data: bytes) -> None:
        if self.other is None or self.other.transport is None:
            return
        if not self.other.transport.is_closing():
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.hold(True)

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.hold(False)

    def hold(self, congested: bool) -> None:
        """Stop reading while the other side can't take more: memory stays bounded."""
        self._congested = congested
        self.apply()

    def apply(self) -> None:
        """Read, or not, as the proxy's mode and the other side say."""
        if self.transport is None or self.transport.is_closing():
            return
        if self.faces_client and self.other is None:
            return  # not connected upstream yet
        swallowed = self.proxy.swallows and (self.proxy.swallows == "all" or not self.faces_client)
        if swallowed or self._congested:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self.proxy.halves.discard(self)
        if self.other is None or self.other.transport is None:
            return
        if error is None and not self._late:
            self.other.transport.close()  # what was written still leaves
        else:
            self.other.transport.abort()


class Proxy:
    """Listens on a port of its own from `start` to `stop`. `target` is asked at each connection."""

    def __init__(self, target: Callable[[], int]) -> None:
        self.target = target
        self.port = free_port()
        self.halves: set[_Half] = set()
        self.delay_s = 0.0
        self.swallows = ""  # "all", "answers", or nothing
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> "Proxy":
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> "Proxy":
        """Listen; raises OSError if somebody else took the port first."""
        self._thread.start()
        self._order(self._listen())
        return self

    def stop(self) -> None:
        """Cut everything and stop listening."""
        with contextlib.suppress(RuntimeError):
            self._order(self._close())
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(ORDER_TIMEOUT_S)
        self._loop.close()

    def cut(self) -> int:
        """Reset every connection; returns how many there were. New ones are welcome."""
        return self._order(self._cut())

    def swallow(self, what: str = "all") -> None:
        """Forward nothing ("all"), or requests but no answers ("answers"), until `forward`."""
        self._order(self._set_mode(what, self.delay_s))

    def forward(self) -> None:
        """Forward again; what was swallowed arrives now."""
        self._order(self._set_mode("", self.delay_s))

    def delay(self, seconds: float) -> None:
        """Forward everything so much later, in both directions; 0 ends it."""
        self._order(self._set_mode(self.swallows, seconds))

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run in the proxy's loop, which keeps only weak references itself."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _order(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(ORDER_TIMEOUT_S)

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Half(self, faces_client=True), "127.0.0.1", self.port
        )

    async def _close(self) -> None:
        self._server.close()
        await self._cut()
        for task in list(self._tasks):
            task.cancel()

    async def _cut(self) -> int:
        count = 0
        for half in list(self.halves):
            count += half.faces_client
            if half.transport is not None:
                _reset(half.transport)
        return count

    async def _set_mode(self, swallows: str, delay_s: float) -> None:
        self.swallows, self.delay_s = swallows, delay_s
        for half in list(self.halves):
            half.apply()


def _reset(transport: asyncio.Transport) -> None:
    """End a connection with RST, as a firewall does, and not with an orderly FIN."""
    linger = struct.pack("ii", 1, 0)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    transport.abort()
