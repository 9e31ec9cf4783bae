"""The result as one self-contained page: no script, font or style from elsewhere; light and dark.

python -m tests.bench.compare.page compare.json compare.html      # again, of figures that are there
"""

import json
import sys
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from string import Template

from tests.bench.compare import table
from tests.bench.compare.bars import Bar, svg
from tests.bench.compare.table import HEAD, LOSSES, Summary, Trials
from tests.bench.compare.trial import SHARE, SHARE_BOUND, STEADY
from tests.bench.compare.ways import CALLERS, FLAVOURS, WAYS, configuration

TOLD = 6  # messages of each way

Summaries = Mapping[str, Summary]


def render(trials: Trials, about: Mapping[str, object]) -> str:
    """The page."""
    found = {name: each for name, rounds in trials.items() if (each := Summary.of(rounds)) is not None}
    template = Template((Path(__file__).parent / "page.html").read_text(encoding="utf-8"))
    return template.substitute(
        setting=escape(_setting(about)),
        figures="".join(_figures(found)),
        table=_table(trials),
        reading="".join(f"<p>{escape(each)}</p>" for each in READING),
        configured="".join(_configured(name) for name in trials),
        told=_told(trials),
        about=" · ".join(f"{escape(name)} {escape(str(value))}" for name, value in about.items()),
    )


def _setting(about: Mapping[str, object]) -> str:
    rounds = about.get("rounds", 1)
    counted = "One round." if rounds == 1 else f"{rounds} rounds: failed calls are summed, times are medians."
    return (
        f"One real Kubernetes node. Three pods whose one method takes 10 ms; {CALLERS * len(FLAVOURS)} callers in two pods, one synchronous "
        "and one asyncio, each 20 ms between calls, and without a retry policy unless the row says so. One way after the other, each through the same: "
        f"{STEADY:.0f} quiet seconds, a rolling update, a deletion, a kill -9, a scale up from 3 to 6 and back. "
        f"{counted}"
    )


READING = (
    "Sleep: a preStop handler that sleeps so many seconds before the server has SIGTERM, and then stops with server.stop(10); headless and MaxConnectionAge: the name of a "
    "headless Service with dns:/// and round_robin. What else each row consists of is below.",
    f"Share: after the scale up, seconds from the last new pod's readiness until each pod answers {SHARE:.0%} of the mean, in a window of one second. "
    "max/mean: the busiest pod's calls in that second (or in the last one, if that never came).",
    "Connections: behind ClusterIP each caller has its own; to a proxy or an Envoy beside them 4 from each pod of callers; in all other rows there is one channel in each pod, and its "
    "balancer has a connection to each server.",
    "Rolling update: from kubectl rollout restart until the last old pod is gone.",
    "CPU: what the servers' containers, the proxy on the node and the Envoys beside the clients used in the quiet seconds, for 1,000 calls. What clients "
    "use is shown apart: there, drain's own control plane is in it. Envoy, HAProxy, Traefik and nginx run on the node, not in pods.",
    "grpc-go is another language: its CPU and its latency say nothing about the way.",
    "kill -9: what is in flight at the killed process is lost to everybody who does not retry. Readiness sees it only at the next probe (each second), and "
    "kubelet starts the container again in about a second, at the same address.",
)


def _figures(found: Summaries) -> list[str]:
    def lost(*what: str) -> Callable[[Summary], tuple[float, ...]]:
        return lambda each: tuple(float(each.lost[name][0]) for name in what)

    def count(each: Summary, *what: str) -> str:
        return f"{sum(each.lost[name][0] for name in what):,}"

    careful = LOSSES[:3]
    return [
        _figure("Failed calls when pods leave in order", _legend(*careful), found, lost(*careful), lambda each: count(each, *careful), zero=True),
        _figure("Failed calls when a server is killed (kill -9)", "one process of three", found, lost("kill -9"), lambda each: count(each, "kill -9"), zero=True),
        _figure(
            "Seconds until new pods have their share, 3 → 6",
            f"full width: not within {SHARE_BOUND:.0f} s",
            found,
            lambda each: (each.share if each.share is not None else SHARE_BOUND,),
            lambda each: f"{each.share:.1f} s" if each.share is not None else f"not within {SHARE_BOUND:.0f} s",
            bad=lambda each: each.share is None,
        ),
        _figure("Seconds that a rolling update of 3 pods takes", "until the last old pod is gone", found, lambda each: (each.update,), lambda each: f"{each.update:.1f} s"),
        _figure(
            "Latency while nothing happens, of which 10 ms are the handler's", _legend("p50", "p99"), found,
            lambda each: (1000 * each.p50, 1000 * (each.p99 - each.p50)),
            lambda each: f"{1000 * each.p50:.1f}, {1000 * each.p99:.1f} ms",
        ),
        _figure(
            "Seconds of CPU for 1,000 calls", _legend("servers, proxies, sidecars", "clients"), found,
            lambda each: (each.cpu, each.clients_cpu), lambda each: f"{each.cpu:.2f} + {each.clients_cpu:.2f} s",
        ),
    ]  # fmt: skip


def _figure(
    title: str,
    note: str,
    found: Summaries,
    parts: Callable[[Summary], tuple[float, ...]],
    figure: Callable[[Summary], str],
    *,
    zero: bool = False,
    bad: Callable[[Summary], bool] = lambda _: False,
) -> str:
    """`zero`: it is what everybody wants."""
    bars = []
    for name, each in found.items():
        values = parts(each)
        mark = ("bad" if sum(values) else "good") if zero else "bad" if bad(each) else ""
        bars.append(Bar(WAYS[name].title, values, figure(each), "ours" if WAYS[name].ours else "", mark))
    note = note if note.startswith("<i") else escape(note)
    return f'<figure><figcaption><h2>{escape(title)}</h2><p>{note}</p></figcaption><div class="wide">{svg(bars, title)}</div></figure>'


def _legend(*names: str) -> str:
    return "".join(f'<i class="part{number}"></i>{escape(name)}' for number, name in enumerate(names))


def _table(trials: Trials) -> str:
    head = "".join(f'<th scope="col">{escape(each)}</th>' for each in HEAD)
    body = ""
    for name, (title, *cells) in zip(trials, table.lines(trials), strict=True):
        row = f"<td>{escape(title)}</td>"
        if cells[0].startswith("broke"):
            row += f'<td class="broke" colspan="{len(cells)}">{escape(cells[0])}</td>'
        else:
            row += "".join(f'<td class="{_mark(HEAD[n], cell)}">{escape(cell)}</td>' for n, cell in enumerate(cells, 1))
        body += f"<tr{' class=ours' if WAYS[name].ours else ''}>{row}</tr>"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _mark(column: str, cell: str) -> str:
    if column.startswith("failed"):
        return "good" if cell.startswith("0 ") else "bad"
    return "bad" if cell.startswith("not ") else ""


def _configured(name: str) -> str:
    way = WAYS[name]
    files = "".join(
        f"<h3>{escape(file)}</h3><pre>{escape(text)}</pre>" for file, text in configuration(WAYS[name]).items()
    )
    return f"<details><summary>{escape(way.title)} <span>· {escape(way.advice)}</span></summary>{files}</details>"


def _told(trials: Trials) -> str:
    found = ""
    for name, rounds in trials.items():
        messages = list(dict.fromkeys(message for each in rounds for message in each.told))[:TOLD]
        if messages:
            items = "".join(f"<li>{escape(each)}</li>" for each in messages)
            found += f'<details><summary>{escape(WAYS[name].title)}</summary><ul class="told">{items}</ul></details>'
    return found or "<p>No call failed.</p>"


if __name__ == "__main__":
    recorded = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    Path(sys.argv[2]).write_text(render(table.read(recorded), recorded["about"]), encoding="utf-8")
