"""The table of systems: what each way of adding a voice keeps, gains and costs, as one report."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voicegraft.evaluation.reports.document import (
    COLOURS,
    Document,
    Facts,
    Figure,
    Section,
    Table,
    draw,
    write_document,
)
from voicegraft.evaluation.reports.summary import environment

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

Results = Mapping[str, Mapping[str, Any]]  # system -> part -> measures; parts that a system lacks are missing
_COLUMNS = (
    "text QA", "perplexity, books", "dialogues", "TTS WER [95 %]", "CER", "DNSMOS", "similarity", "ran away",
    "spoken / written QA", "trained", "step", "routed wrongly",
)  # fmt: skip


def write_table(out: Path, results: Results, about: Mapping[str, Any]) -> str:
    """Writes report.json, report.md with its figures and report.html into the folder; returns the Markdown."""
    rows = {name: _row(result) for name, result in results.items()}
    own = {name: {kind: f"{part['score']:.3f}" for kind, part in _own(r).items()} for name, r in results.items()}
    public = {
        name: {task: f"{part['score']:.3f}" for task, part in r.get("tasks", {}).items()} for name, r in results.items()
    }
    chance = {kind: f"{part['chance']:.3f}" for kind, part in _own(next(iter(results.values()))).items()}
    explained = (
        "Text QA is the mean over the kinds of questions below; perplexity is per word of held-out text. Spoken QA is heard"
        " by a recogniser that knows what may be answered, of the answer that the system wrote itself; the written score beside"
        " it is of the same questions. Trained are the parameters beside the backbone's. A step is the time of a decoding step"
        " of speech against one of the bare backbone on the same engine: a copy with the experts folded in where gates hold for"
        " a whole sequence, the fused layers where they do not."
    )
    by_kind = _table({**own, "one and the same answer to all": chance})
    sections = [
        Section("", [_table(rows), explained, _trade(results)]),
        Section("Text QA by kind of question", [by_kind, _answers(results)]),
        *[Section("Public tasks", [_table(public)])] * any(public.values()),
        Section("Measured on", [Facts({**about, **environment()})]),
    ]
    data = {"about": dict(about), "environment": environment(), **results}
    return write_document(out, "report", Document("Text and speech, system by system", sections), data)


def _table(rows: Mapping[str, Mapping[str, str]]) -> Table:
    """System -> column -> cell; the first system has all columns."""
    columns = list(next(iter(rows.values())))
    return Table(("system", *columns), [[name, *row.values()] for name, row in rows.items()])


def _own(result: Mapping[str, Any]) -> dict[str, Any]:
    """Kind of question -> what was measured."""
    tasks = result["text"]["tasks"].items()
    return {name.removeprefix("own: "): part for name, part in tasks if name.startswith("own: ")}


def _accuracy(result: Mapping[str, Any]) -> float:
    return statistics.mean(part["score"] for part in _own(result).values())


def _row(result: Mapping[str, Any]) -> dict[str, str]:
    """Column -> cell; parts that a system lacks are a dash."""
    texts = [result["text"]["tasks"][f"perplexity: {name}"]["per_word"] for name in ("books", "dialogues")]
    books, dialogues = (f"{value:.1f}" if value < 1e4 else f"{value:.1e}" for value in texts)
    row = dict.fromkeys(_COLUMNS, "-")
    row |= {"text QA": f"{_accuracy(result):.3f}", "perplexity, books": books, "dialogues": dialogues}
    row["trained"] = f"{result['size']['trained'] / 1e6:.2f} M"
    if speech := result.get("speech"):
        row["TTS WER [95 %]"] = "{value:.3f} [{low:.2f}, {high:.2f}]".format(**speech["wer"])
        row["CER"] = f"{speech['cer']:.3f}"
        row["ran away"] = f"{speech['num_ran_away']} of {speech['num_clips']}"
        if speech["mos"]:
            row["DNSMOS"] = f"{speech['mos']['ovrl']['value']:.2f}"
        if speech["voice"] in speech["similarity"]:
            row["similarity"] = f"{speech['similarity'][speech['voice']]:.2f}"
    if spoken := result.get("spoken_qa"):
        row["spoken / written QA"] = f"{spoken['spoken']:.3f} / {spoken['written']:.3f}"
    if cost := result.get("cost"):
        row["step"] = f"{cost['ratio']:.2f} ({cost['engine']})"
    if router := result.get("router"):
        counts = {task: (chosen[task], sum(chosen.values())) for task, chosen in router["counts"].items()}
        row["routed wrongly"] = ", ".join(
            f"{task} {total - right} of {total}" for task, (right, total) in counts.items()
        )
    return row


def _trade(results: Results) -> Figure:
    """Every system as a numbered point: text QA against what is understood of its speech."""
    points: dict[tuple[float, float], list[str]] = {}
    for number, result in enumerate(results.values(), start=1):
        if "speech" in result:  # near ones share a point
            wer = min(result["speech"]["wer"]["value"], 1.1)
            points.setdefault((round(20 * wer) / 20, round(20 * _accuracy(result)) / 20), []).append(str(number))

    def drawing(canvas: Canvas) -> None:
        axes, names = canvas.subplots(1, 2, width_ratios=(3, 2))
        axes.axhline(_accuracy(next(iter(results.values()))), color="#9aa5b1", linewidth=1, linestyle="--")
        for (x, y), numbers in points.items():
            axes.plot(x, y, "o", color=COLOURS[0], markersize=9)
            axes.annotate(", ".join(numbers), (x, y), xytext=(0, 9), textcoords="offset points", ha="center")
        axes.set_xlabel("word error rate of speech (less is better; 1.1 stands for more)")
        axes.set_ylabel("text QA, share of right answers (dashed: the first system's)")
        axes.set_xlim(0, 1.2)
        axes.set_ylim(-0.03, 1)
        names.axis("off")
        listed = "\n".join(f"{number}  {name}" for number, name in enumerate(results, start=1))
        names.text(0, 1, listed, va="top", fontsize=9, linespacing=1.6)

    return draw("text-and-speech", "what is kept of text against what is understood of speech", drawing, 5.5, 10)


def _answers(results: Results) -> Figure:
    """Text QA, and what is heard of spoken answers, per system."""
    names = list(results)

    def drawing(canvas: Canvas) -> None:
        axes = canvas.subplots()
        for offset, key, colour in ((-0.2, "written", COLOURS[0]), (0.2, "spoken", COLOURS[1])):
            shares = [result.get("spoken_qa", {}).get(key, 0.0) for result in results.values()]
            axes.barh([i + offset for i in range(len(names))], shares, 0.38, color=colour, label=key)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.set_xlabel("share of right answers to the same questions")
        axes.legend()

    return draw("answers", "written and spoken answers", drawing, 1.2 + 0.42 * len(names), 8.5)
