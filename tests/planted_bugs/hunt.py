"""Run inside a patched copy of the tree: seeds of one flow until a violation says what it must.

flow, first seed, most, words  →  {"seed", "tried", "said", "others"} as JSON on stdout
"""

import json
import os
import re
import sys
from collections import Counter
from pathlib import Path


def main() -> None:
    """Hunt from each of the given first seeds, in one laboratory."""
    asked = json.loads(sys.argv[1])
    import jobs
    from verify.lab import Lab

    copy = Path.cwd()
    assert jobs.__file__ is not None
    assert Path(jobs.__file__).is_relative_to(copy), f"{jobs.__file__} is not the patched code"
    with Lab.open(os.environ["DATABASE_URL"]) as lab:
        for first in asked["starts"]:
            found = hunt(lab, asked["flow"], first, asked["most"], asked["words"])
            print(json.dumps(found), flush=True)


def hunt(lab: object, flow: str, first: int, most: int, words: str) -> dict[str, object]:
    """Seeds from `first` on; what else was violated on the way is counted, and does not count."""
    from verify.lab import Lab
    from verify.schedule import Schedule

    assert isinstance(lab, Lab)
    others: Counter[str] = Counter()
    for tried in range(1, most + 1):
        violations = Schedule(lab, flow, first + tried - 1).run().violations
        said = next((told for told in violations if re.search(words, told)), None)
        if said is not None:
            return {"seed": first + tried - 1, "tried": tried, "said": said, "others": dict(others)}
        others.update(told.split(":")[0][:120] for told in violations[:1])
    return {"seed": None, "tried": most, "said": None, "others": dict(others)}


if __name__ == "__main__":
    main()
