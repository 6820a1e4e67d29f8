"""RabbitMQ from Debian packages, unpacked into a folder of the project: no administrator.

    apt-cache depends -> apt-get download -> dpkg -x -> rename

Works on Debian and Ubuntu for any user (33 MB, some ten seconds). What the system already has is
not fetched again; maintainer scripts never run.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from servers import processes
from servers.errors import ServerMissing
from servers.rabbitmq_home import Home, find_home

TREE = "rabbitmq-debian"
TIMEOUT_S = 600
ROOT_PACKAGE = "rabbitmq-server"
DEPENDS = re.compile(r"^\s+\|?(?:Pre)?Depends: ([a-z0-9][a-z0-9+.-]*)(?::any)?$", re.MULTILINE)
# Maintainer scripts want adduser, logrotate, openssl …; running the broker needs only these.
WANTED = re.compile(r"^(erlang-|lib)")


def fetched_home(folder: Path) -> Home:
    """The RabbitMQ fetched for `folder`; raises ServerMissing if it was not fetched."""
    return find_home(_tree_folder(folder) / TREE)


def fetch_rabbitmq(folder: Path) -> Home:
    """Fetch RabbitMQ and Erlang into `folder`, once. Raises ServerMissing with the reason."""
    folder = _tree_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with processes.only_one(folder / "fetch.lock"):
        try:
            return fetched_home(folder)
        except ServerMissing:
            pass
        for program in ("apt-get", "apt-cache", "dpkg"):
            if shutil.which(program) is None:
                raise ServerMissing(f"RabbitMQ packages can't be fetched: no {program} here")
        print("Fetching RabbitMQ (about 33 MB, once) …", file=sys.stderr, flush=True)
        draft = folder / f"{TREE}.new"
        shutil.rmtree(draft, ignore_errors=True)
        (draft / "root").mkdir(parents=True)
        options = _apt_options(folder)
        _run(["apt-get", *options, "download", *_packages(options)], draft)
        for package in sorted(draft.glob("*.deb")):
            _run(["dpkg", "-x", str(package), str(draft / "root")], draft)
        shutil.rmtree(folder / TREE, ignore_errors=True)
        (draft / "root").rename(folder / TREE)
        shutil.rmtree(draft)
        return fetched_home(folder)


def _tree_folder(folder: Path) -> Path:
    """`folder`, or the user's cache: RabbitMQ's own scripts fail in a path with spaces."""
    if re.search(r"\s", str(folder.absolute())):
        return Path.home() / ".cache" / "overnight"
    return folder.absolute()


def _apt_options(folder: Path) -> list[str]:
    """Options for apt; with package lists of our own when the system has none."""
    if "Depends:" in _run(["apt-cache", "depends", ROOT_PACKAGE], folder, check=False):
        return []
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / "apt" / name).mkdir(parents=True, exist_ok=True)
    options = [f"-oDir::State::Lists={folder}/apt/lists", f"-oDir::Cache={folder}/apt/cache"]
    _run(["apt-get", *options, "update"], folder)
    return options


def _packages(options: list[str]) -> list[str]:
    """RabbitMQ and what it needs that is not installed here."""
    todo, wanted = [ROOT_PACKAGE], [ROOT_PACKAGE]
    while todo:
        only = ["--no-recommends", "--no-suggests", "--no-enhances"]
        text = _run(["apt-cache", *options, "depends", *only, *todo], Path("/"))
        found = sorted(set(DEPENDS.findall(text)) - set(wanted))
        todo = [name for name in found if WANTED.match(name) and not _installed(name)]
        wanted += todo
    return wanted


def _installed(package: str) -> bool:
    if package.startswith("erlang-"):
        return False  # the tree has one Erlang of its own, all of one version
    status = _run(["dpkg-query", "-W", "-f=${Status}\n", package], Path("/"), check=False)
    return "install ok installed" in status


def _run(command: list[str], folder: Path, check: bool = True) -> str:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise ServerMissing(f"{' '.join(command[:3])} …: nothing in {TIMEOUT_S} s") from error
    if check and done.returncode:
        reason = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()[-1]
        raise ServerMissing(f"{' '.join(command[:3])} … failed: {reason}")
    return done.stdout
