"""Make .venv with exactly the locked packages; run by the Makefile with any Python 3.11+.

python -m venv -> pip install --require-hashes -> pip install --no-deps -e .

Says what it does, and what to install when Python itself lacks something.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"


def main() -> int:
    """Make or update .venv; returns 1, with a sentence that says what to do, on failure."""
    if sys.version_info < (3, 11):  # noqa: UP036 - whatever Python the Makefile met runs this
        found = ".".join(str(part) for part in sys.version_info[:3])
        print("Overnight needs Python 3.11 or newer; " + sys.executable + " is " + found)
        return 1
    python = VENV / "bin" / "python"
    if not _works(python):
        try:
            import ensurepip  # noqa: F401 - Debian ships it, and venv's working, apart
            import venv  # noqa: F401
        except ImportError:
            package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
            print(f"This Python can't make a virtual environment: apt-get install {package}")
            return 1
        print(f"Making .venv with Python {sys.version.split()[0]} …", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True)
    print("Installing the locked packages (about a minute the first time) …", flush=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "-qq"]
    steps = (
        [*pip, "--require-hashes", "-r", "requirements-dev.txt"],
        [*pip, "--no-deps", "--no-build-isolation", "--editable", "."],
    )
    for step in steps:
        if subprocess.run(step, cwd=ROOT, check=False).returncode:
            print("Could not install; the lines above say why. Run the same command again.")
            return 1
    (VENV / ".installed").touch()
    return 0


def _works(python: Path) -> bool:
    try:
        done = subprocess.run([str(python), "-m", "pip", "--version"], capture_output=True)
    except OSError:
        return False
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
