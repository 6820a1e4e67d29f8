"""docs/services.md: the worked example, applied to a copy of the program, runs there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

PARTS = (
    "actors", "domain", "jobs", "mocks", "models", "providers", "servers", "usecases",
    "settings.py", "pyproject.toml",
    "tests/conftest.py", "tests/integration/conftest.py",
)  # fmt: skip

BLOCK = re.compile(r"^```(python|diff) (\S+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def copy(project: Path, tmp_path: Path) -> Path:
    """The program without its tests, and with what those of the page need."""
    for part in PARTS:
        source, target = project / part, tmp_path / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    return tmp_path


def apply(diff: str, path: Path) -> None:
    """Change the one place that has the lines which are not added."""
    lines = diff.splitlines()
    before = "\n".join(line[1:] for line in lines if not line.startswith("+"))
    after = "\n".join(line[1:] for line in lines if not line.startswith("-"))
    text = path.read_text()
    assert text.count(before) == 1, f"{path.name} has no longer, or not only once:\n{before}"
    path.write_text(text.replace(before, after))


def run(copy: Path, *command: str, **environment: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=copy,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_example_works(project: Path, copy: Path, postgres_url: str) -> None:
    blocks = BLOCK.findall((project / "docs" / "services.md").read_text())
    assert {path for _, path, _ in blocks} >= {"usecases/welcome.py", "actors/wiring.py"}
    for language, path, text in blocks:
        if language == "diff":
            apply(text, copy / path)
        else:
            assert not (copy / path).exists(), f"{path}: the example would overwrite a file"
            (copy / path).write_text(text)
    touched = sorted({path for _, path, _ in blocks})
    run(copy, "ruff", "check", *touched)
    run(copy, "ruff", "format", "--check", *touched)
    run(
        copy, "pytest", "-q", "tests/integration/test_welcome.py",
        OVERNIGHT_TEST_POSTGRES_URL=postgres_url,
    )  # fmt: skip
    code = (
        "from actors.wiring import build_broker; from settings import Settings;"
        "broker = build_broker(Settings()); assert 'WelcomeHolder' in broker.actors;"
        "assert 'welcome' in broker.get_declared_queues()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=copy, check=True)
