"""Free TCP ports on 127.0.0.1, below the range that the kernel gives to outgoing connections.

A client that retries a closed port of the outgoing range can connect to itself, and then the
server that restarts there finds its port taken. A port below that range can't be lost that way.
"""

import random
import socket
from pathlib import Path

LOWEST_PORT = 20_000
DEFAULT_OUTGOING = 32_768  # Linux's default; macOS starts at 49152
RANGE_FILE = Path("/proc/sys/net/ipv4/ip_local_port_range")
ATTEMPTS = 200

_random = random.SystemRandom()  # a seeded caller must not make two programs pick the same port


def is_free(port: int) -> bool:
    """Whether a server could listen on 127.0.0.1:`port` now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port that is free now. Somebody else may take it first, so callers retry."""
    highest = _outgoing_start()
    if highest - LOWEST_PORT >= ATTEMPTS:
        for _ in range(ATTEMPTS):
            port = _random.randrange(LOWEST_PORT, highest)
            if is_free(port):
                return port
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _outgoing_start() -> int:
    try:
        return int(RANGE_FILE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return DEFAULT_OUTGOING
