"""`drain doctor` on 500 objects: the whole command, beside what PyYAML alone takes to read the same file."""

import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from tests.bench._rows import Row, Spread

GOOD = Path(__file__).parents[1] / "unit" / "doctor" / "good" / "drain-server.yaml"
COPIES = 56  # of nine objects
MOST = 2.0  # seconds
PROGRAM = "import sys; from drain._cli import main; sys.exit(main())"
YAML = "import sys, yaml; list(yaml.load_all(open(sys.argv[1]), Loader=yaml.CSafeLoader))"


async def measure(quick: bool) -> AsyncIterator[Row]:
    """A row."""
    copies = 2 if quick else COPIES
    text = "\n---\n".join(
        GOOD.read_text().replace("orders", f"orders{n}").replace("web", f"web{n}") for n in range(copies)
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "all.yaml"
        file.write_text(text)
        ours, theirs = [], []
        for _ in range(1 if quick else 7):
            ours.append(_took([sys.executable, "-c", PROGRAM, "doctor", "-f", str(file)]))
            theirs.append(_took([sys.executable, "-c", YAML, str(file)]))
    found, yaml = Spread.of(ours), Spread.of(theirs)
    ratio = found.median / yaml.median
    yield Row(
        f"drain doctor on {9 * copies} objects, {len(text) // 1000} kB",
        f"{found.ms()}; {ratio:.1f} times PyYAML's reading",
        f"<= {MOST:g} s",
        found.most <= MOST,
        {"doctor": ours, "yaml": theirs},
    )


def _took(command: list[str]) -> float:
    began = time.monotonic()
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return time.monotonic() - began
