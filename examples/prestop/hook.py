"""Puts the hook into a folder, for a container whose image has Python but not this package:

    python -m examples.prestop.hook /hook       # an init container does this
    python3 /hook --standalone                  # and the server's container runs that

The hook is standard library only, so a copy of drain without what drain depends on will do.
"""

import argparse
import shutil
from pathlib import Path

import drain

MAIN = """from drain.prestop import main

raise SystemExit(main())
"""


def main() -> None:
    """Copy, and say so."""
    parser = argparse.ArgumentParser(prog="python -m examples.prestop.hook")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    package = Path(drain.__file__).parent
    shutil.copytree(package, folder / package.name, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    (folder / "__main__.py").write_text(MAIN, encoding="ascii")
    print(f"the hook: python3 {folder} --standalone", flush=True)


if __name__ == "__main__":
    main()
