"""What can go wrong with a server, in words that say the next step."""


class ServerError(RuntimeError):
    """A private server could not be started, reached or stopped."""


class ServerMissing(ServerError):
    """No server was found and none can be started here; the message says what to install."""
