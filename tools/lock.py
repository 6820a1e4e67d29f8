"""Write uv.lock, requirements.txt and requirements-dev.txt; run by `make lock`.

    pyproject.toml -> uv lock -> uv export (with hashes) -> uv.lock without a host

The repository names no package registry: each machine knows its own, often a mirror. uv.lock is
rewritten to name the files only (in .wheels, see docs/dependencies.md); uv accepts that, and puts
its registry back by itself when it has to resolve again, keeping the versions.

`--upgrade` takes the newest versions.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXPORT = ["uv", "export", "--quiet", "--frozen", "--no-emit-project", "--no-header"]
EXPORT += ["--format", "requirements-txt"]
FILES = {
    "requirements.txt": ["--no-dev"],
    "requirements-dev.txt": ["--group", "dev"],
    "requirements-bench.txt": ["--only-group", "bench"],
}


def without_host(lock: str) -> str:
    """The text of a uv.lock with each registry and address replaced by .wheels and a name."""
    lock = re.sub(r'registry = "[^"]*"', 'registry = ".wheels"', lock)
    return re.sub(r'url = "https?://[^"]*/([^"/]+)"', r'path = "\1"', lock)


def main() -> int:
    """Lock, export, rewrite; fail if an address would be left in any of the files."""
    try:
        subprocess.run(["uv", "lock", *sys.argv[1:]], cwd=ROOT, check=True)
    except FileNotFoundError:
        print("`make lock` needs uv: pip install uv", file=sys.stderr)
        return 1
    for name, options in FILES.items():
        exported = subprocess.run(
            [*EXPORT, *options], cwd=ROOT, check=True, capture_output=True, text=True
        )
        (ROOT / name).write_text(exported.stdout)
    lock = ROOT / "uv.lock"
    lock.write_text(without_host(lock.read_text()))
    for path in [lock, *(ROOT / name for name in FILES)]:
        if "://" in path.read_text():
            print(f"{path.name} names a host", file=sys.stderr)
            return 1
    print(f"Wrote uv.lock, {', '.join(FILES)}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
