"""What the examiner says: in the terminal, in the notebook, and as one HTML page."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from chapters.project import data
from helpers.exercises.feedback import inline

if TYPE_CHECKING:
    from chapters.project.exam import Lab, Result, Verdict

_MARKS = {True: "✓", False: "✗", None: "–"}
_COLOURS = {True: "#00684a", False: "#b03a00", None: "#555555"}
_STYLE = "text-align:left;vertical-align:top;padding:4px 10px 4px 0"
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width">
<body style="font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em">
<main>{body}</main>
</body></html>
"""


def text(result: Result) -> str:
    """The whole report for a terminal."""
    return "\n".join([*map(str, result.verdicts), "", told(result)])


def told(result: Result) -> str:
    """How many trials passed; for what failed, what it would mean at work and what to read."""
    lines = [_count(result)]
    for verdict in result.verdicts:
        if verdict.passed is False:
            trial = verdict.trial
            lines += ["", trial.demand, f"  Seen:    {verdict.said}"]
            lines += [f"  At work: {trial.meaning}", f"  Read:    {trial.chapter}"]
    return "\n".join(lines)


def body(result: Result) -> str:
    """The report as HTML, without the frame of a page."""
    order = {False: 0, None: 1, True: 2}
    rows = sorted(result.verdicts, key=lambda verdict: order[verdict.passed])
    pictures = "".join(
        f'<p><img style="max-width:100%" alt="{html.escape(alt)}" '
        f'src="data:image/png;base64,{base64.b64encode(png).decode()}"></p>'
        for alt, png in result.figures.items()
    )
    return f"<p><b>{html.escape(_count(result))}</b></p>{_table(rows)}{pictures}"


def save(result: Result, path: Path) -> None:
    """Write the report as one HTML page that needs no other file."""
    title = f"Examination of {result.program.name}"
    whole = f"<h1>{html.escape(title)}</h1>{body(result)}"
    path.write_text(_PAGE.format(title=html.escape(title), body=whole), "utf-8")


def live() -> Callable[[list[Verdict], list[Any]], None]:
    """A function that shows the progress: in a notebook a table that grows, else a line each."""
    import IPython

    if IPython.get_ipython() is None:
        return lambda verdicts, waiting: print(*map(str, verdicts[-1:]), flush=True)
    handle = IPython.display.display(IPython.display.HTML(""), display_id=True)

    def show(verdicts: list[Verdict], waiting: list[Any]) -> None:
        now = f"<p>Trying <b>{waiting[0].name}</b>; {len(waiting)} to go …</p>" if waiting else ""
        handle.update(IPython.display.HTML(_table(verdicts) + now if waiting else ""))

    return show


def figures(lab: Lab) -> dict[str, bytes]:
    """PNGs by their alternative texts, of whatever the runs have given."""
    import matplotlib.pyplot as plt

    from chapters.project import exam, trials
    from helpers import plots

    def given(make):
        result = lab.results.get(make)
        return result.value if result is not None and result.made else None

    plots.use_style()
    drawn = {}

    def keep(figure, alt: str) -> None:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        plt.close(figure)
        drawn[alt] = buffer.getvalue()

    base = given(exam.base)
    curves = {tag: base.points(tag) if base else [] for tag in ("train/loss", "val/loss")}
    if all(curves.values()):
        figure, axes = plt.subplots()
        for tag, points in curves.items():
            axes.plot(*zip(*points, strict=True), label=tag)
        axes.set(title="Loss of the training with seed 0", xlabel="step", ylabel="loss")
        axes.legend()
        keep(figure, "Training loss and validation loss by step.")
    answers = [given(exam.unseen(seed)) for seed in exam.SEEDS]
    if all(isinstance(answer, np.ndarray) for answer in answers):
        count = len(data.part("unseen").labels)
        truth = data.part("unseen").labels
        figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 3.4))
        left.bar(range(data.CLASSES), trials.recall(lab))
        left.axhline(trials.TARGETS["worst"], color="black", linestyle=":")
        left.set(title="Read right, by digit", xticks=range(data.CLASSES), ylim=(0, 1))
        confidence = np.concatenate([answer[:count].max(axis=1) for answer in answers])
        hit = np.concatenate([answer[:count].argmax(axis=1) == truth for answer in answers])
        place = np.minimum((confidence * 10).astype(int), 9)
        bins = [b for b in range(10) if (place == b).any()]
        means = [[values[place == b].mean() for b in bins] for values in (confidence, hit)]
        middle.plot([0, 1], [0, 1], color="#888888", linestyle=":")
        middle.plot(*means, marker="o")
        middle.set(title="Right, by confidence", xlabel="confidence", ylim=(0, 1.02))
        strange = np.concatenate([answer[count:].max(axis=1) for answer in answers])
        bounds = np.linspace(0, 1, 21)
        for name, values in (("digits", confidence), ("letters", strange)):
            right.hist(values, bounds, density=True, histtype="step", linewidth=2, label=name)
        right.set(title="Confidence", xlabel="confidence")
        right.legend(loc="upper left")
        keep(
            figure,
            "On people the program has never seen: the share of each digit that is read right; how "
            "often it is right by its confidence; its confidence for digits and for letters.",
        )
    return drawn


def _table(verdicts: list[Verdict]) -> str:
    rows = []
    for verdict in verdicts:
        trial, said = verdict.trial, inline(verdict.said)
        if verdict.passed is False:
            said += f"<br>At work: {inline(trial.meaning)}<br>Read again: {trial.chapter}"
        mark = f'<b style="color:{_COLOURS[verdict.passed]}">{_MARKS[verdict.passed]}</b>'
        name = f'<span style="white-space:nowrap">{mark} {trial.name}</span>'
        cells = (name, inline(trial.demand), said)
        rows.append("".join(f'<td style="{_STYLE}">{cell}</td>' for cell in cells))
    titles = "".join(f'<th style="{_STYLE}">{t}</th>' for t in ("Trial", "Demand", "Seen"))
    return f"<table><tr>{titles}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


def _count(result: Result) -> str:
    untried = sum(verdict.passed is None for verdict in result.verdicts)
    more = f"; {untried} could not be tried" if untried else ""
    return f"{result.passed} of {len(result.verdicts)} trials passed{more}."
