"""Where RabbitMQ's and Erlang's programs are: installed, or in a fetched Debian tree."""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from servers.errors import ServerMissing

# Not /usr/sbin/rabbitmq-server: that wrapper insists on root or the user `rabbitmq`.
SERVER_GLOBS = (
    "usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server",
    "opt/homebrew/sbin/rabbitmq-server",
    "usr/local/sbin/rabbitmq-server",
)


@dataclass(frozen=True)
class Home:
    """One installation: the server script, the folder of `erl` and `epmd`, its libraries."""

    server: Path
    erlang_bin: Path
    libraries: str = ""  # LD_LIBRARY_PATH of a fetched tree

    @property
    def version(self) -> str:
        """For example "3.10.8"; empty when the path does not tell."""
        found = re.search(r"rabbitmq_server-([\d.]+)", str(self.server))
        return found.group(1) if found else ""


def find_home(root: Path | None = None) -> Home:
    """RabbitMQ below `root` (a fetched tree), or installed in the system; or ServerMissing."""
    base = root or Path("/")
    servers = [path for pattern in SERVER_GLOBS for path in base.glob(pattern)]
    if root is not None:
        erl: Path | None = root / "usr/lib/erlang/bin/erl"
    else:
        on_path = shutil.which("erl", path=f"{os.environ.get('PATH', '')}:/usr/bin:/usr/local/bin")
        erl = Path(on_path) if on_path else None
    if not servers or erl is None or not erl.exists():
        raise ServerMissing(
            f"No RabbitMQ with Erlang below {base}: apt-get install rabbitmq-server"
        )
    if root is not None:
        relocate(root)
    libraries = ":".join(str(path) for path in base.glob("usr/lib/*-linux-gnu")) if root else ""
    return Home(max(servers), erl.parent, libraries)


def relocate(root: Path) -> None:
    """Make both `erl` scripts of a fetched tree look for Erlang where the tree is now."""
    erlang = root / "usr/lib/erlang"
    for script in [erlang / "bin/erl", *erlang.glob("erts-*/bin/erl")]:
        text = script.read_text()
        moved = re.sub(
            r"^(\s*)ROOTDIR=.*$", lambda m: f'{m[1]}ROOTDIR="{erlang}"', text, flags=re.M
        )
        if moved != text:
            script.write_text(moved)
