"""A picture of `drain top` amid a rollout: `python -m tests.helm._top_picture FILE.png`. What it draws is what the terminal gets."""

import os
import sys
import tempfile
import threading
import time
from pathlib import Path

from rich.console import Console

from drain._cli.gathering import Board, local
from drain._cli.top_text import frame
from drain._rehearse import picture
from tests._parts import prometheus
from tests.helm._scene.scene import Scene

WIDTH = 150


def main(file: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        scene = Scene(Path(folder), prometheus.server(print))
        os.environ["DRAIN_RUNTIME_DIR"] = str(Path(folder) / "run")
        try:
            for _ in range(4):
                scene.start()
            time.sleep(8)
            board, stopped = Board(), threading.Event()
            looking = threading.Thread(target=local, args=(board, (), 0.2, stopped), daemon=True)
            looking.start()
            scene.leave(scene.pods[0], late=0.6)
            time.sleep(0.2)
            console = Console(record=True, width=WIDTH, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115 - until the end
            console.print(frame([each for _, each in board.shown()], (), time.strftime("%H:%M:%S")))
            stopped.set()
            looking.join(10)
        finally:
            scene.close()
        page = Path(folder) / "top.html"
        page.write_text(f"<body style='margin: 0; background: white'>{console.export_svg(title='drain top')}")
        picture.take(page, Path(file), "1860,935")


if __name__ == "__main__":
    main(sys.argv[1])
