"""What a backbone can still do after a voice was grafted onto it: task by task before and after, and one number.

A task retains after / before; perplexity, where less is better, retains before / after. The one number, ``retention``, is the
unweighted mean over the tasks that the backbone does better than chance. Each counts as 1 at most: a gain on one task does not
make up for a loss on another. To keep what chance gives is no skill, so tasks at chance level are shown and left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from voicegraft.evaluation.reports.document import Document, Facts, Figure, Section, Table, decimal, write_document
from voicegraft.evaluation.tasks.base import Kind, Measured, Subject

_SURE = 1.645  # standard deviations above chance: one-sided 95 %


@dataclass(frozen=True)
class Compared:
    """One task before and after."""

    task: str
    kind: Kind
    before: float
    after: float
    retained: float | None  # None where there was nothing to retain
    chance: float
    above_chance: bool  # before; only then does the task count
    count: int
    same_answers: float | None  # share of answers that are word for word the same


def compare(before: Mapping[str, Measured], after: Mapping[str, Measured]) -> list[Compared]:
    """One row per task; both must have done the same tasks."""
    rows = []
    for task, was in before.items():
        now = after[task]
        same = [a == b for a, b in zip(was.answers, now.answers, strict=True)]
        retained: float | None
        if was.kind == "perplexity":
            retained, above_chance = was.score / now.score, was.score < was.chance
        else:
            retained = now.score / was.score if was.score else None
            above_chance = was.score > was.chance + _SURE * math.sqrt(was.chance * (1 - was.chance) / was.count)
        rows.append(
            Compared(
                task=task,
                kind=was.kind,
                before=was.score,
                after=now.score,
                retained=retained if math.isfinite(now.score) else 0.0,  # a broken model retains nothing
                chance=was.chance,
                above_chance=above_chance,
                count=was.count,
                same_answers=sum(same) / len(same) if same else None,
            )
        )
    return rows


def retention(rows: Sequence[Compared]) -> float | None:
    """The one number in [0, 1]; None where no task was done better than chance."""
    counted = [min(row.retained, 1.0) for row in rows if row.above_chance and row.retained is not None]
    return sum(counted) / len(counted) if counted else None


def same_answers(before: Mapping[str, Measured], after: Mapping[str, Measured]) -> float | None:
    """Share of all generated answers that are word for word the same; None where none were generated."""
    pairs = [
        pair
        for task, measured in before.items()
        if measured.kind == "generated"
        for pair in zip(measured.answers, after[task].answers, strict=True)
    ]
    return sum(a == b for a, b in pairs) / len(pairs) if pairs else None


@torch.inference_mode()
def logit_difference(before: PreTrainedModel, after: Subject, texts: Sequence[list[int]]) -> float:
    """Largest absolute difference of a logit over all positions of the texts (token ids); 0.0 is bit for bit."""
    largest = 0.0
    for ids in tqdm(texts, desc="logits", unit="text"):
        row = torch.tensor([ids], device=before.device)
        expected = before(input_ids=row, use_cache=False).logits
        with after.gated():
            found = after.model(input_ids=row, use_cache=False).logits
        difference = float((found - expected).abs().max())
        if math.isnan(difference):
            return math.inf
        largest = max(largest, difference)
    return largest


@dataclass(frozen=True)
class ForgettingReport:
    rows: tuple[Compared, ...]
    retention: float | None  # see ``retention``
    threshold: float
    logit_difference: float
    num_texts: int  # on which it was looked for
    same_answers: float | None  # share of generated answers
    router: Mapping[str, Any]  # of ``routing.confusion``
    about: Mapping[str, Any]  # what was evaluated, and on what; JSON-ready

    @property
    def passed(self) -> bool:
        return self.retention is not None and self.retention >= self.threshold


def write_report(folder: Path, report: ForgettingReport, figures: Sequence[Figure]) -> str:
    """Writes report.json, report.md with its figures and report.html into the folder; returns the Markdown."""
    left_out = ", ".join(row.task for row in report.rows if not row.above_chance)
    no_skill = f"At chance level before, so it says nothing that they are retained, and they do not count: {left_out}."
    sections = (
        Section("", [verdict(report), _tasks(report.rows), *[no_skill] * bool(left_out), *figures]),
        Section("Router", _router(report.router)),
        Section("Measured on", [Facts(report.about)]),
    )
    data = {**asdict(report), "passed": report.passed}
    return write_document(folder, "report", Document("Forgetting report", sections), data)


def verdict(report: ForgettingReport) -> str:
    """The numbers in three sentences."""
    number = "Retention cannot be told: the backbone does none of these tasks better than chance."
    if report.retention is not None:
        order = "reaches" if report.passed else "is below"
        number = f"Retention {report.retention:.4f}, which {order} the threshold of {report.threshold}."
    said = "No answers were generated."
    if report.same_answers is not None:
        said = f"Of the generated answers {100 * report.same_answers:.1f} % are identical."
    bits = " (bit for bit the same)" if report.logit_difference == 0 else ""
    found = f"{report.logit_difference:.3g}{bits} over {report.num_texts} texts"
    return f"{number} {said} Largest difference of a logit in text mode: {found}."


def _tasks(rows: Sequence[Compared]) -> Table:
    cells = [
        (row.task, decimal(row.before, 3), decimal(row.after, 3), decimal(row.retained, 4),
         f"{row.chance:.0f}" if row.kind == "perplexity" else decimal(row.chance, 3),
         "yes" if row.above_chance else "no, at chance", decimal(row.same_answers, 3), str(row.count))
        for row in rows
    ]  # fmt: skip
    return Table(
        ("task", "before", "after", "retained", "chance", "counts", "same answers", "questions or tokens"), cells
    )


def _router(router: Mapping[str, Any]) -> tuple[str, Table]:
    told = {
        "router": "The router chose (rows: tasks; columns: experts):",
        "task": "There is no router: the task decides which expert acts.",
        "fixed gates": "The gates are fixed, whatever the task:",
    }[router["decided_by"]]
    rows = [
        (task, *(str(chosen[name]) for name in router["experts"]), "-" if right is None else f"{100 * right:.2f} %")
        for (task, chosen), right in zip(router["counts"].items(), router["right"].values(), strict=True)
    ]
    return told, Table(("task", *router["experts"], "right"), rows)
