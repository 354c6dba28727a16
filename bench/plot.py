"""The plots: rate against p99, and what pages and sockets cost."""

from pathlib import Path

from matplotlib.figure import Figure as Picture

from bench.ramp import IN_TIME
from bench.run import Figure

COLOURS = {
    "Knock": "#b5462f",
    "Socket.IO + pg": "#3a6ea5",
    "FastAPI, as usual": "#5b8c5a",
    "bare uvicorn relay": "#8a8a8a",
}


def draw(folder: Path, rounds: list[list[Figure]]) -> None:
    figures = [figure for each in rounds for figure in each]
    for count in (200, 1000):
        rates = [figure for figure in figures if figure.measure == f"highest rate, {count} people"]
        if rates:
            _rates(folder / f"rate-{count}.png", count, rates)
    pages = [figure for figure in rounds[-1] if "milliseconds" in figure.details]
    sockets = [figure for figure in rounds[-1] if "bytes" in figure.details]
    if pages and sockets:
        _costs(folder / "costs.png", pages, sockets[0])


def _rates(path: Path, count: int, figures: list[Figure]) -> None:
    picture = Picture(figsize=(8, 4.5), layout="constrained")
    axes = picture.subplots()
    for figure in figures:
        steps = [step for step in figure.details["steps"] if step[1] < 20 * IN_TIME]
        label = figure.who if figure is next(each for each in figures if each.who == figure.who) else None
        axes.plot(*zip(*steps, strict=True), "o-", color=COLOURS[figure.who], label=label, alpha=0.7, markersize=4)
    axes.axhline(IN_TIME, color="black", linewidth=0.8, linestyle="--")
    axes.set(xscale="log", yscale="log", xlabel="messages a second", ylabel="p99, ms")
    axes.set_title(f"{count:,} people in pairs: from the send until both have it")
    axes.grid(visible=True, which="both", alpha=0.2)
    axes.legend()
    picture.savefig(path, dpi=110)


def _costs(path: Path, pages: list[Figure], sockets: Figure) -> None:
    picture = Picture(figsize=(10, 4.5), layout="constrained")
    left, right = picture.subplots(1, 2)
    for page in pages:
        title = page.measure.partition(": ")[2]
        left.plot(page.details["messages"], page.details["milliseconds"], "o-", label=title, alpha=0.7, markersize=4)
    left.set(xscale="log", xlabel="messages in the chat; users grow along, to 100,000", ylabel="ms a page", ylim=0)
    left.set_title("A page, one client, median")
    left.legend(fontsize="small")
    right.plot(sockets.details["sockets"], [taken / 2**20 for taken in sockets.details["bytes"]], "o-", color="#b5462f")
    right.set(xlabel="idle sockets", ylabel="MiB", ylim=0)
    right.set_title("Memory of the web processes")
    for axes in (left, right):
        axes.grid(visible=True, alpha=0.2)
    picture.savefig(path, dpi=110)
