"""A picture of the dashboard: `python -m tests.helm._picture FILE.png` runs pods through rollouts, asks a real Prometheus, and draws.

Not Grafana's own drawing: its panels, places, queries, legends, units and colours are those of the JSON, the lines are ours.
"""

import html
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from drain._rehearse import picture
from tests._parts import prometheus
from tests.helm._dashboard import FILE
from tests.helm._scene.scene import NAMESPACE, Scene

WIDTH, CELL = 1440, 30
PALETTE = ("#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#96d98d", "#ffee52", "#ffb357")
NAMED = {"green": "#73bf69", "red": "#f2495c"}
STYLE = """
body { background: #111217; color: #ccccdc; font: 13px Inter, 'DejaVu Sans', sans-serif; margin: 0; width: 1440px; position: relative }
div.panel { position: absolute; box-sizing: border-box; border: 1px solid #24262c; background: #181b1f; padding: 6px 8px; overflow: hidden }
div.row { position: absolute; font-weight: bold; padding: 6px }
h2 { font-size: 13px; font-weight: 500; margin: 0 0 4px }
.number { font-size: 40px; text-align: center; padding-top: 8px }
.legend { font-size: 11px; white-space: nowrap; overflow: hidden; text-overflow: ellipsis }
.legend i { display: inline-block; width: 10px; height: 3px; margin: 0 4px 3px 10px }
text { fill: #9a9aa8; font-size: 10px }
"""


def played(scene: Scene) -> tuple[float, float]:
    """A minute and a half in the life of a service: it grows, every pod is replaced, it shrinks. When it began and ended."""
    began = time.time()
    for _ in range(3):
        scene.start()
    time.sleep(12)
    scene.start()
    time.sleep(8)
    for _ in range(2):
        for pod in list(scene.pods):
            scene.start()
            time.sleep(3)
            scene.leave(pod, late=0.8)
            time.sleep(2)
        time.sleep(6)
    scene.leave(scene.pods[0])
    time.sleep(8)
    return began, time.time()


def page(scene: Scene, began: float, ended: float) -> str:
    """All panels in their places."""
    board = json.loads(FILE.read_text())
    parts = [_panel(scene, each, began, ended) for each in board["panels"]]
    height = max(each["gridPos"]["y"] + each["gridPos"]["h"] for each in board["panels"]) * CELL
    return f"<!doctype html><meta charset=utf-8><title>gRPC drain</title><style>{STYLE}</style><body style='height: {height}px'>{''.join(parts)}"


def _panel(scene: Scene, panel: dict[str, Any], began: float, ended: float) -> str:
    at, unit = panel["gridPos"], WIDTH / 24
    place = f"left: {at['x'] * unit}px; top: {at['y'] * CELL}px; width: {at['w'] * unit}px; height: {at['h'] * CELL}px"
    title = html.escape(panel["title"])
    if panel["type"] == "row":
        return f"<div class=row style='{place}'>⌄ {title}</div>"
    draw = _number if panel["type"] == "stat" else _lines
    return f"<div class=panel style='{place}'><h2>{title}</h2>{draw(scene, panel, began, ended)}</div>"


def _filled(expression: str, seconds: float) -> str:
    filled = expression.replace("$namespace", NAMESPACE).replace("$pod", ".*").replace("$__range", f"{seconds:.0f}s")
    return filled.replace("[1m]", "[10s]")  # so short a time has no use for minutes


def _number(scene: Scene, panel: dict[str, Any], began: float, ended: float) -> str:
    answer = scene.ask(_filled(panel["targets"][0]["expr"], ended - began), time=str(ended))
    if not answer:
        return "<div class=number style='color: #9a9aa8'>-</div>"
    value, colour = float(answer[0]["value"][1]), "green"
    for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]:
        colour = step["color"] if step.get("value") is None or value >= step["value"] else colour
    return f"<div class=number style='color: {NAMED[colour]}'>{value:.0f}</div>"


def _lines(scene: Scene, panel: dict[str, Any], began: float, ended: float) -> str:
    lines: dict[str, dict[float, float]] = {}
    for target in panel["targets"]:
        query = _filled(target["expr"], ended - began)
        for series in scene.ask(query, start=str(began), end=str(ended), step="1"):
            name = re.sub(
                r"\{\{(\w+)\}\}", lambda match, found=series: found["metric"].get(match[1], ""), target["legendFormat"]
            )
            lines[name] = {at: float(value) for at, value in series["values"] if value != "NaN"}
    return _drawn(panel, {name: line for name, line in lines.items() if line}, began, ended)


def _drawn(panel: dict[str, Any], lines: dict[str, dict[float, float]], began: float, ended: float) -> str:
    width, height, left = panel["gridPos"]["w"] * WIDTH / 24 - 20, panel["gridPos"]["h"] * CELL - 66, 46
    stacked = panel["fieldConfig"]["defaults"]["custom"].get("stacking", {}).get("mode") == "normal"
    heap: dict[float, float] = {}
    tops = dict(_tops(lines, heap)) if stacked else lines
    most = max((value for line in tops.values() for value in line.values()), default=1.0) or 1.0
    unit, factor = (" s", 1.0) if panel["fieldConfig"]["defaults"]["unit"] == "s" else ("", 1.0)
    unit, factor = (" ms", 1000.0) if unit and most < 1 else (unit, factor)

    def place(at: float, value: float) -> str:
        return (
            f"{left + (at - began) / (ended - began) * (width - left):.1f},{height - value / most * (height - 12):.1f}"
        )

    colours = _colours(panel, list(lines))
    shapes = [
        f"<polyline fill='none' stroke='{colours[name]}' stroke-width='1.3' points='{points}'/>"
        + (
            f"<polygon fill='{colours[name]}' fill-opacity='0.35' points='{points} {_back(lines[name], line, place)}'/>"
            if stacked
            else ""
        )
        for name, line in tops.items()
        for points in [" ".join(place(at, value) for at, value in line.items())]
    ]
    grid = [
        f"<line x1='{left}' x2='{width}' y1='{y}' y2='{y}' stroke='#2c2f36'/><text x='{left - 4}' y='{y + 3}' text-anchor='end'>{value * factor:.3g}{unit}</text>"
        for value in (0, most / 2, most)
        for y in [height - value / most * (height - 12)]
    ]
    legend = "".join(f"<i style='background: {colours[name]}'></i>{html.escape(name)}" for name in lines) or "no data"
    return f"<svg width='{width:.0f}' height='{height + 4:.0f}'>{''.join(grid + shapes)}</svg><div class=legend>{legend}</div>"


def _tops(lines: dict[str, dict[float, float]], heap: dict[float, float]) -> Iterator[tuple[str, dict[float, float]]]:
    for name, line in lines.items():
        top = {at: heap.get(at, 0.0) + value for at, value in line.items()}
        heap.update(top)
        yield name, top


def _back(line: dict[float, float], top: dict[float, float], place: Callable[[float, float], str]) -> str:
    return " ".join(place(at, top[at] - value) for at, value in reversed(line.items()))


def _colours(panel: dict[str, Any], names: list[str]) -> dict[str, str]:
    fixed = {
        each["matcher"]["options"]: each["properties"][0]["value"]["fixedColor"]
        for each in panel["fieldConfig"]["overrides"]
    }
    return {name: fixed.get(name, PALETTE[number % len(PALETTE)]) for number, name in enumerate(names)}


def main(file: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        scene = Scene(Path(folder), prometheus.server(print))
        try:
            began, ended = played(scene)
            written = Path(folder) / "dashboard.html"
            written.write_text(page(scene, began + 3, ended))
        finally:
            scene.close()
        picture.take(written, Path(file), f"{WIDTH},1680")


if __name__ == "__main__":
    main(sys.argv[1])
