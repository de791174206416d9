"""The table of systems: what each way of adding a voice keeps, gains and costs; as JSON, Markdown and pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voicegraft.core.files import write_text
from voicegraft.evaluation.reports.document import fact_list, markdown_table
from voicegraft.evaluation.reports.summary import environment

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Results = Mapping[str, Mapping[str, Any]]  # system -> part -> measures; parts that a system lacks are missing
_NONE = "-"
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
    rows = [[name, *(cell(result) for _, cell in _COLUMNS)] for name, result in results.items()]
    public = list(next(iter(results.values())).get("tasks", {}))
    public_rows = [[n, *(f"{r['tasks'][t]['score']:.3f}" for t in public)] for n, r in results.items() if public]
    kinds = list(next(iter(results.values()))["text"]["kinds"])
    per_kind = [[n, *(f"{r['text']['kinds'][k]['right']:.3f}" for k in kinds)] for n, r in results.items()]
    chance = [f"{next(iter(results.values()))['text']['kinds'][k]['constant']:.3f}" for k in kinds]
    sections = [
        "# Text and speech, system by system",
        markdown_table(("system", *(title for title, _ in _COLUMNS)), rows),
        "Text QA is the mean over the kinds of questions below; perplexity is per word of held-out text. Spoken QA is heard"
        " by a recogniser that knows what may be answered, of the answer that the system wrote itself; the written score beside"
        " it is of the same questions. Trained are the parameters beside the backbone's. A step is the time of a decoding step"
        " of speech against one of the bare backbone on the same engine: a copy with the experts folded in where gates hold for"
        " a whole sequence, the fused layers where they do not.",
        "![what is kept of text against what is understood of speech](text-and-speech.png)",
        "## Text QA by kind of question",
        markdown_table(("system", *kinds), [*per_kind, ["one and the same answer to all", *chance]]),
        "![written and spoken answers](answers.png)",
        *(["## Public tasks", markdown_table(("system", *public), public_rows)] if public else []),
        "## Measured on",
        fact_list({**about, **environment()}),
    ]
    return "\n\n".join(sections) + "\n"


def _text_accuracy(result: Mapping[str, Any]) -> str:
    return f"{result['text']['accuracy']:.3f}"


def _perplexity(name: str) -> Callable[[Mapping[str, Any]], str]:
    def cell(result: Mapping[str, Any]) -> str:
        value = result["text"]["perplexity"][name]
        return f"{value:.1f}" if value < 1e4 else f"{value:.1e}"

    return cell


def _speech(show: Callable[[Mapping[str, Any]], str]) -> Callable[[Mapping[str, Any]], str]:
    return lambda result: show(result["speech"]) if "speech" in result else _NONE


def _wer(speech: Mapping[str, Any]) -> str:
    wer = speech["wer"]
    return f"{wer['value']:.3f} [{wer['low']:.2f}, {wer['high']:.2f}]"


def _mos(speech: Mapping[str, Any]) -> str:
    return f"{speech['mos']['ovrl']['value']:.2f}" if speech["mos"] else _NONE


def _similarity(speech: Mapping[str, Any]) -> str:
    return f"{speech['similarity'][speech['voice']]:.2f}" if speech["voice"] in speech["similarity"] else _NONE


def _spoken(result: Mapping[str, Any]) -> str:
    if "spoken_qa" not in result:
        return _NONE
    return f"{result['spoken_qa']['spoken']:.3f} / {result['spoken_qa']['written']:.3f}"


def _trained(result: Mapping[str, Any]) -> str:
    return f"{result['size']['trained'] / 1e6:.2f} M"


def _cost(result: Mapping[str, Any]) -> str:
    if "cost" not in result:
        return _NONE
    return f"{result['cost']['ratio']:.2f} ({result['cost']['engine']})"


def _router(result: Mapping[str, Any]) -> str:
    """Prompts that went to the wrong expert, text and speech."""
    if "router" not in result:
        return _NONE
    counts = result["router"]["counts"]
    wrong = {task: (sum(row.values()) - row[task], sum(row.values())) for task, row in counts.items()}
    return ", ".join(f"{task} {errors} of {total}" for task, (errors, total) in wrong.items())


_COLUMNS: tuple[tuple[str, Callable[[Mapping[str, Any]], str]], ...] = (
    ("text QA", _text_accuracy),
    ("perplexity, books", _perplexity("books")),
    ("dialogues", _perplexity("dialogues")),
    ("TTS WER [95 %]", _speech(_wer)),
    ("CER", _speech(lambda s: f"{s['cer']:.3f}")),
    ("DNSMOS", _speech(_mos)),
    ("similarity", _speech(_similarity)),
    ("ran away", _speech(lambda s: f"{s['num_ran_away']} of {s['num_clips']}")),
    ("spoken / written QA", _spoken),
    ("trained", _trained),
    ("step", _cost),
    ("routed wrongly", _router),
)


def _trade(results: Results) -> Figure:
    """Every system as a numbered point: text QA against what is understood of its speech."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5.5), layout="constrained")
    axes, names = figure.subplots(1, 2, width_ratios=(3, 2))
    first = next(iter(results.values()))["text"]["accuracy"]
    axes.axhline(first, color="#9aa5b1", linewidth=1, linestyle="--")
    points: dict[tuple[float, float], list[str]] = {}
    for number, result in enumerate(results.values(), start=1):
        if "speech" in result:  # near ones share a point
            wer = min(result["speech"]["wer"]["value"], 1.1)
            points.setdefault((round(20 * wer) / 20, round(20 * result["text"]["accuracy"]) / 20), []).append(
                str(number)
            )
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
    written = [results[n]["spoken_qa"]["written"] if "spoken_qa" in results[n] else None for n in names]
    heard = [results[n]["spoken_qa"]["spoken"] if "spoken_qa" in results[n] else None for n in names]
    for offset, values, colour, label in ((-0.2, written, _TEXT, "written"), (0.2, heard, _SPEECH, "spoken")):
        axes.barh([i + offset for i in range(len(names))], [v or 0.0 for v in values], 0.38, color=colour, label=label)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of right answers to the same questions")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
