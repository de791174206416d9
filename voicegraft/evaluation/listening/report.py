"""From rows to tables: each number with its 95 % interval over clips, beside its floors and its ceiling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from voicegraft.core.ledger import Row
from voicegraft.data.listening_tasks import REPEAT
from voicegraft.evaluation.listening.answering import NOTHING, TEXT
from voicegraft.evaluation.listening.behaviour import DETAIL, PARTS, QUESTION
from voicegraft.evaluation.listening.items import pieces
from voicegraft.evaluation.metrics.rates import bootstrap_ratio
from voicegraft.evaluation.metrics.significance import wilson
from voicegraft.evaluation.reports.document import Document, Facts, Section, Table, interval, percent
from voicegraft.evaluation.speech.reserved import TEST_VOICES

RIGHT = (QUESTION, DETAIL)
_ALL = "all"


def summarize(
    asked: Sequence[Row],
    heard: Sequence[Row],
    unspoken: Sequence[Row],
    waited: Sequence[Row],
    turns: Sequence[Row] = (),
) -> dict[str, Any]:
    """
    Args:
        asked: of ``behaviour.measure``. heard, unspoken: of ``recognition.heard``. waited: ``who`` and ``wall_sec``.
        turns: of ``conversations.hold``.
    """
    checked = [row for row in turns if row["right"] is not None]
    graded = [row for row in asked if row["task"] not in RIGHT]
    repeated = [row for row in asked if row["task"] == REPEAT]
    return {
        "words": _grouped([*heard, *repeated], _corpora, _wer),
        "right": {task: _grouped([row for row in asked if row["task"] == task], _corpora, _right) for task in RIGHT},
        "behaviour": _grouped(graded, lambda row: [row["part"]], _close),
        "tasks": _grouped(asked, lambda row: [f"{row['task']}, {row['part']}"], _close),
        "conversations": _grouped(checked, lambda row: [row["message"], _ALL], _right),
        "nothing said": _grouped(unspoken, _corpora, _made_up),
        "first token": {who: _seconds(rows) for who, rows in _split(waited, "who").items()},
    }


def document(found: Mapping[str, Any]) -> Document:
    sections = [
        Section(
            "Words",
            [
                "Word error rate against the true text, both in Whisper's normal form. What stands in the audio's place names "
                "the LLM's own transcription: a small LLM does not even repeat the true text without errors.",
                _table(found["words"], ("who transcribes", "clips"), lambda one: interval(one["wer"], 3)),
            ],
        )
    ]
    for task, title in ((QUESTION, "Spoken questions"), (DETAIL, "Details of sentences")):
        if found["right"].get(task):
            text = "Share of right answers: the true text is what the LLM can do in writing."
            table = _table(
                found["right"][task], ("in the audio's place", "questions"), lambda one: percent(one["right"])
            )
            sections.append(Section(title, [text, table]))
    for name, title in (("behaviour", "Behaviour"), ("tasks", "Task by task")):
        if found[name]:
            sections.append(Section(title, _behaviour(found[name])))
    if told := _conversations(found):
        sections.append(Section("Conversations", told))
    if found["nothing said"]:
        text = "Silence, noise, hum and chords: the share of clips in which somebody heard a word."
        table = _table(found["nothing said"], ("who", "clips"), lambda one: percent(one["made_up"]))
        sections.append(Section("Where nobody says anything", [text, table]))
    if found["first token"]:
        rows = [
            (who, f"{one['median']:.2f}", f"{one['p95']:.2f}", str(one["num"]))
            for who, one in found["first token"].items()
        ]
        text = "Seconds from the end of the sound, none of which was read before, to the answer's first token."
        columns = ("in the audio's place", "median s", "95 % below s", "clips")
        sections.append(Section("First token", [text, Table(columns, rows)]))
    if found.get("forgetting"):
        sections.append(Section("Forgetting", [Facts(found["forgetting"])]))
    return Document("Listening report", [*sections, Section("Measured on", [Facts(found["about"])])])


def transcripts(turns: Sequence[Row]) -> Document:
    """All conversations for reading, from the rows of ``conversations.hold``."""

    def answered(row: Row) -> str:
        return {None: "", True: "✓ ", False: "✗ "}[row["right"]] + str(row["answer"])

    sections = []
    for name, rows in _split(turns, "corpus").items():
        table = []
        for text, own in _split(rows, "asked").items():
            said = "".join(f"*{piece}*" if number % 2 else piece for number, piece in enumerate(pieces(text)))
            table.append((said, *map(answered, own)))
        sections.append(Section(name, [Table(("*spoken* and written", *_split(rows, "who")), table)]))
    return Document("Conversations", sections)


def _conversations(found: Mapping[str, Any]) -> list[str | Table]:
    told: list[str | Table] = []
    if found["conversations"]:
        told += [
            "Several turns, each way with its own earlier answers before it: the share of right answers, by how the message "
            "came. Those in writing alone stand behind a spoken one. All are in `conversations.md`.",
            _table(found["conversations"], ("in the audio's place", "answers"), lambda one: percent(one["right"])),
        ]
    if found.get("unsaid"):
        told.append(
            f"{len(found['unsaid'])} sentences of conversations are in no clip, and conversations with them are left out: "
            f"`voicegraft synthesize texts=conversations.txt out=SAID allow_test_voices=true voices=[{','.join(TEST_VOICES)}]` "
            "says them (the file is in this folder), and `--test-speech SAID` lets them be heard."
        )
    return told


def _behaviour(groups: Mapping[str, Mapping[str, Any]]) -> list[str | Table]:
    """One table of divergence and one of agreement: a row for each place, a column for each part or task."""
    places = list(dict.fromkeys(who for group in groups.values() for who in group if who != TEXT))
    columns = sorted(groups, key=lambda name: PARTS.index(name) if name in PARTS else len(PARTS))

    def told(name: str, who: str) -> str:
        one, floor = groups[name].get(who), groups[name].get(NOTHING)
        if one is None:
            return "-"
        share = f", {one['kl']['value'] / floor['kl']['value']:.2f} of nothing" if floor and who != NOTHING else ""
        return interval(one["kl"], 2) + (share if len(groups) <= len(PARTS) else "")

    divergence = Table(
        ("in the audio's place", *columns), [(who, *(told(name, who) for name in columns)) for who in places]
    )
    agreement = Table(
        divergence.columns,
        [(who, *(interval(groups[name].get(who, {}).get("agreement"), 2) for name in columns)) for who in places],
    )
    num = ", ".join(f"{name} {next(iter(groups[name].values()))['num']}" for name in columns)
    return [
        "KL(answer to the true text || answer to what stands there), nats a token of the answer to the true text. "
        f"Answers: {num}.",
        divergence,
        "Share of those tokens of which the same is likeliest.",
        agreement,
    ]


def _table(groups: Mapping[str, Mapping[str, Any]], first: tuple[str, str], cell: Any) -> Table:
    """A row for each that listens, a column for each corpus."""
    names = list(dict.fromkeys(who for group in groups.values() for who in group))
    rows = []
    for who in names:
        found = [groups[corpus].get(who) for corpus in groups]
        num = max(one["num"] for one in found if one)
        rows.append((who, *("-" if one is None else cell(one) for one in found), str(num)))
    return Table((first[0], *groups, first[1]), rows)


def _corpora(row: Row) -> list[str]:
    return [row["corpus"], _ALL]


def _grouped(rows: Sequence[Row], names: Any, measure: Any) -> dict[str, dict[str, Any]]:
    """Name of a group -> who -> what is measured of its rows; the group of all stands last, where there are several."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        for name in names(row):
            groups.setdefault(name, []).append(row)
    if _ALL in groups:
        groups[_ALL] = groups.pop(_ALL)
        if len(groups) == 2:
            del groups[_ALL]
    return {
        name: {who: {"num": len(own), **measure(own)} for who, own in _split(group, "who").items()}
        for name, group in groups.items()
    }


def _split(rows: Sequence[Row], key: str) -> dict[str, list[Row]]:
    return {name: [row for row in rows if row[key] == name] for name in dict.fromkeys(row[key] for row in rows)}


def _wer(rows: Sequence[Row]) -> dict[str, Any]:
    return {"wer": asdict(bootstrap_ratio([row["word_errors"] for row in rows], [row["num_words"] for row in rows]))}


def _right(rows: Sequence[Row]) -> dict[str, Any]:
    return {"right": asdict(wilson(sum(row["right"] for row in rows), len(rows)))}


def _close(rows: Sequence[Row]) -> dict[str, Any]:
    tokens = [row["num_tokens"] for row in rows]
    return {
        "kl": asdict(bootstrap_ratio([row["kl"] for row in rows], tokens)),
        "agreement": asdict(bootstrap_ratio([row["agreed"] for row in rows], tokens)),
    }


def _made_up(rows: Sequence[Row]) -> dict[str, Any]:
    return {"made_up": asdict(wilson(sum(row["word_errors"] > 0 for row in rows), len(rows)))}


def _seconds(rows: Sequence[Row]) -> dict[str, float]:
    median, high = np.quantile([row["wall_sec"] for row in rows], [0.5, 0.95])
    return {"median": float(median), "p95": float(high), "num": len(rows)}
