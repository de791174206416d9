"""The table of systems: what each way of adding a voice keeps, gains and costs; as JSON, Markdown and pictures."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voicegraft.core.files import write_text
from voicegraft.evaluation.reports.document import fact_list, markdown_table
from voicegraft.evaluation.reports.summary import environment

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Results = Mapping[str, Mapping[str, Any]]  # system -> part -> measures; parts that a system lacks are missing
_COLUMNS = (
    "text QA", "perplexity, books", "dialogues", "TTS WER [95 %]", "CER", "DNSMOS", "similarity", "ran away",
    "spoken / written QA", "trained", "step", "routed wrongly",
)  # fmt: skip
_TEXT, _SPEECH = "#2563a8", "#b3261e"


def write_table(out: Path, results: Results, about: Mapping[str, Any]) -> str:
    """Writes out/report.json, out/report.md and the pictures; returns the Markdown."""
    write_text(
        out / "report.json", json.dumps({"about": dict(about), "environment": environment(), **results}, indent=1)
    )
    figures = {"text-and-speech.png": _trade(results), "answers.png": _answers(results)}
    for name, figure in figures.items():
        figure.savefig(out / name, dpi=120)
    text = to_markdown(results, about)
    write_text(out / "report.md", text)
    return text


def to_markdown(results: Results, about: Mapping[str, Any]) -> str:
    rows = {name: _row(result) for name, result in results.items()}
    own = {name: {kind: f"{part['score']:.3f}" for kind, part in _own(r).items()} for name, r in results.items()}
    public = {
        name: {task: f"{part['score']:.3f}" for task, part in r.get("tasks", {}).items()} for name, r in results.items()
    }
    chance = {kind: f"{part['chance']:.3f}" for kind, part in _own(next(iter(results.values()))).items()}
    sections = [
        "# Text and speech, system by system",
        _table(rows),
        "Text QA is the mean over the kinds of questions below; perplexity is per word of held-out text. Spoken QA is heard"
        " by a recogniser that knows what may be answered, of the answer that the system wrote itself; the written score beside"
        " it is of the same questions. Trained are the parameters beside the backbone's. A step is the time of a decoding step"
        " of speech against one of the bare backbone on the same engine: a copy with the experts folded in where gates hold for"
        " a whole sequence, the fused layers where they do not.",
        "![what is kept of text against what is understood of speech](text-and-speech.png)",
        "## Text QA by kind of question",
        _table({**own, "one and the same answer to all": chance}),
        "![written and spoken answers](answers.png)",
        *(["## Public tasks", _table(public)] if any(public.values()) else []),
        "## Measured on",
        fact_list({**about, **environment()}),
    ]
    return "\n\n".join(sections) + "\n"


def _table(rows: Mapping[str, Mapping[str, str]]) -> str:
    """System -> column -> cell; the first system has all columns."""
    columns = list(next(iter(rows.values())))
    return markdown_table(("system", *columns), [[name, *row.values()] for name, row in rows.items()])


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
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5.5), layout="constrained")
    axes, names = figure.subplots(1, 2, width_ratios=(3, 2))
    axes.axhline(_accuracy(next(iter(results.values()))), color="#9aa5b1", linewidth=1, linestyle="--")
    points: dict[tuple[float, float], list[str]] = {}
    for number, result in enumerate(results.values(), start=1):
        if "speech" in result:  # near ones share a point
            wer = min(result["speech"]["wer"]["value"], 1.1)
            points.setdefault((round(20 * wer) / 20, round(20 * _accuracy(result)) / 20), []).append(str(number))
    for (x, y), numbers in points.items():
        axes.plot(x, y, "o", color=_TEXT, markersize=9)
        axes.annotate(", ".join(numbers), (x, y), xytext=(0, 9), textcoords="offset points", ha="center")
    axes.set_xlabel("word error rate of speech (less is better; 1.1 stands for more)")
    axes.set_ylabel("text QA, share of right answers (dashed: the first system's)")
    axes.set_xlim(0, 1.2)
    axes.set_ylim(-0.03, 1)
    axes.spines[["top", "right"]].set_visible(False)
    names.axis("off")
    listed = "\n".join(f"{number}  {name}" for number, name in enumerate(results, start=1))
    names.text(0, 1, listed, va="top", fontsize=9, linespacing=1.6)
    return figure


def _answers(results: Results) -> Figure:
    """Text QA, and what is heard of spoken answers, per system."""
    from matplotlib.figure import Figure

    names = list(results)
    figure = Figure(figsize=(8.5, 1.2 + 0.42 * len(names)), layout="constrained")
    axes = figure.subplots()
    for offset, key, colour in ((-0.2, "written", _TEXT), (0.2, "spoken", _SPEECH)):
        shares = [result.get("spoken_qa", {}).get(key, 0.0) for result in results.values()]
        axes.barh([i + offset for i in range(len(names))], shares, 0.38, color=colour, label=key)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of right answers to the same questions")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
