"""The evaluation of speech as one HTML page: numbers, figures, the worst items to listen to, every item."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from voicegraft.audio.io import encode_flac
from voicegraft.core.files import write_text
from voicegraft.evaluation.metrics.measures import BY_NAME, MEASURES
from voicegraft.evaluation.metrics.rates import align_words, normalize_transcript
from voicegraft.evaluation.reports.document import Document, interval, need_matplotlib, render
from voicegraft.evaluation.reports.row_values import (
    RECORDINGS,
    SPEECH,
    Row,
    faults_of,
    group_of,
    number,
    stages_of,
    value_of,
)
from voicegraft.evaluation.reports.speech_figures import spectrogram, speech_figures
from voicegraft.evaluation.reports.summary import summary_sections
from voicegraft.evaluation.speech.items import Clip

# Lists of cards: name in the page -> title. The first that is not empty is open.
_LISTS = {"faults": "Faults", "wer": "Most words wrong", "mos": "Lowest MOS", "typical": "Typical"}
_ON_CARD = ("wer", "mos", "similarity", "rtf")
_HEADLINE = {
    "wer": "Word error rate (WER)", "mos": "MOS, predicted", "similarity": "Same voice (cosine)", "rtf": "RTF",
    "first_audio_sec": "First audio, mean s",
}  # fmt: skip
_NUM_TYPICAL = 3
_LONGEST_SEC = 30.0  # of a clip in the page; one that ran away is no better understood after that
_MAX_BYTES = 15_000_000  # of the page


def write_page(
    out: Path,
    report: Mapping[str, Any],
    audio: Callable[[Row], Clip | None],
    num_worst: int = 10,
    max_bytes: int = _MAX_BYTES,
) -> list[Row]:
    """Writes out/report.html and returns the rows whose clips are inside.

    report: as of `summary.write_report`; what it lacks is left out of the page. audio: the clip of a row, None if
    there is none. num_worst: items per stage with the most words wrong, and with the lowest MOS; the items with
    faults all have a card. Clips are put in, the worst first, while the page stays below max_bytes.
    Raises VoicegraftError where matplotlib is missing.
    """
    need_matplotlib()
    rows, summary = list(report.get("rows") or ()), list(report.get("summary") or ())
    about = report.get("about") or {}
    lists = _choose(rows, num_worst)
    stages = stages_of([rows[index] for index, _ in lists])
    cards: list[dict[str, Any]] = [_card(index, rows[index], ranks) for index, ranks in lists]
    *tables, measured_on = summary_sections(report)
    page: dict[str, Any] = {
        "document": Document(f"Speech evaluation: {about.get('pack') or 'recordings'}", [*tables, measured_on]),
        "about": about,
        "headline": _headline(rows, summary),
        "cards": cards,
        "stages": sorted(stages, key=lambda stage: stage != SPEECH),
        "lists": {name: title for name, title in _LISTS.items() if any(name in ranks for _, ranks in lists)},
        "figures": speech_figures(rows, summary),
        "items": _items(rows, {index for index, _ in lists}),
        "num_rows": len(rows),
        "all_stages": stages_of(rows),
    }
    room = max_bytes - len(render("speech_page.html", **page).encode())
    recorded = _recorded(rows)
    embedded = []
    for card in cards:
        row = card["row"]
        voice = group_of(row)[1]
        beside = recorded.get((voice, row.get("reference"), row.get("id")), recorded.get((voice, row.get("reference"))))
        clips = [(one, audio(one)) for one in (row, beside if beside is not row else None) if one is not None]
        if clips[0][1] is None or not len(clips[0][1].samples):
            card["note"] = "No sound was kept of this item, or it made none."
            continue
        sounds = _sounds([(group_of(one)[0], clip) for one, clip in clips if clip is not None and len(clip.samples)])
        # As base64, with what stands around them.
        num_bytes = sum((len(one["flac"]) + len(one["picture"]["png"])) * 4 // 3 + 3_000 for one in sounds)
        if num_bytes > room:
            break  # the first that does not fit is the last that is tried
        room -= num_bytes
        card["sounds"], card["note"] = sounds, ""
        embedded.append(row)
    write_text(out / "report.html", render("speech_page.html", **page))
    return embedded


def _choose(rows: Sequence[Row], num_worst: int) -> list[tuple[int, dict[str, int]]]:
    """The items to listen to as (index of the row, list -> rank in it), those to embed first in front.

    Every stage has its own lists; the recordings only if there is nothing else.
    """
    stages = [stage for stage in stages_of(rows) if stage != RECORDINGS] or stages_of(rows)
    stages.sort(key=lambda stage: stage != SPEECH)
    chosen: list[tuple[int, dict[str, int]]] = []
    for stage in stages:
        mine = [index for index, row in enumerate(rows) if group_of(row)[0] == stage]
        wer = {index: value_of(BY_NAME["wer"], rows[index]) or 0.0 for index in mine}
        mos = {index: value for index in mine if (value := value_of(BY_NAME["mos"], rows[index])) is not None}
        by_wer = sorted(mine, key=lambda index: -wer[index])
        by_mos = sorted(mos, key=lambda index: mos[index])
        middle = max(len(by_mos) - _NUM_TYPICAL, 0) // 2
        members = {
            "faults": [index for index in by_wer if faults_of(rows[index])],
            "wer": [index for index in by_wer if wer[index]][:num_worst],
            "mos": by_mos[:num_worst],
            "typical": by_mos[middle : middle + _NUM_TYPICAL],
        }
        ranks: dict[int, dict[str, int]] = {}
        for name, indices in members.items():
            for rank, index in enumerate(indices):
                ranks.setdefault(index, {})[name] = rank
        chosen += sorted(ranks.items(), key=lambda one: min(one[1].values()))
    return chosen


def _recorded(rows: Sequence[Row]) -> dict[tuple[Any, ...], Row]:
    """(voice, reference, id) -> the recording; (voice, reference) -> the first one of these words."""
    found: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        stage, voice = group_of(row)
        if stage == RECORDINGS:
            found[voice, row.get("reference"), row.get("id")] = row
            found.setdefault((voice, row.get("reference")), row)
    return found


def _headline(rows: Sequence[Row], summary: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What matters most of each voice in the stage `speech` (else in the last one), beside its recordings."""
    stage = (stages_of(summary) or [""])[-1]
    human = {group_of(one)[1]: one for one in summary if group_of(one)[0] == RECORDINGS != stage}
    tiles = {}
    for one in summary:
        voice = group_of(one)[1]
        if group_of(one)[0] != stage:
            continue
        values = one.get("estimates") or {}
        beside = human.get(voice, {}).get("estimates") or {}
        told = [
            (title, *interval(values[name], digits).split(" ", 1), interval(beside.get(name), digits).split(" ")[0])
            for name, title in _HEADLINE.items()
            if values.get(name) and (digits := BY_NAME[name].digits)
        ]
        mine = [row for row in rows if group_of(row) == (stage, voice)]
        tiles[voice] = {
            "values": told,
            "num_items": len(mine),
            "num_bad": sum(bool(faults_of(row)) for row in mine),
            "faults": Counter(kind for row in mine for kind in faults_of(row)),
            "listened": all(row.get("faults_judged") is not False for row in mine),
        }
    return {"stage": stage, "voices": tiles, "beside": bool(human)}


def _card(index: int, row: Row, ranks: Mapping[str, int]) -> dict[str, Any]:
    written, reference = str(row.get("text") or ""), str(row.get("reference") or "")
    shown = ((BY_NAME[name], value_of(BY_NAME[name], row)) for name in _ON_CARD)
    facts = [(measure.title, f"{value:.{measure.digits}f}") for measure, value in shown if value is not None]
    for name, key in (("seconds", "duration_sec"), ("retries", "num_retries")):
        if value := number(row.get(key)):
            facts.append((name, f"{value:.3g}"))
    return {
        "index": index,
        "row": row,
        "id": str(row.get("id") or ""),
        "group": group_of(row),
        "ranks": ranks,
        "faults": faults_of(row),
        "facts": facts,
        # Only where more than signs and case were taken away, such as numbers.
        "written": written if normalize_transcript(written) != reference else "",
        "words": align_words(reference, str(row.get("heard") or "")),
        "sounds": [],
        "note": "Left out to keep the page small.",
    }


def _sounds(clips: Sequence[tuple[str, Clip]]) -> list[dict[str, Any]]:
    """Clips with their spectrograms on one time axis."""
    longest = max(min(len(clip.samples) / clip.sample_rate, _LONGEST_SEC) for _, clip in clips)
    found = []
    for stage, clip in clips:
        samples = np.asarray(clip.samples[: int(_LONGEST_SEC * clip.sample_rate)], np.float32)
        cut = f" (the first {_LONGEST_SEC:g} s)" if len(samples) < len(clip.samples) else ""
        picture = spectrogram(samples, clip.sample_rate, longest)
        found.append({"title": f"{stage}{cut}", "flac": encode_flac(samples, clip.sample_rate), "picture": picture})
    return found


def _items(rows: Sequence[Row], with_card: set[int]) -> dict[str, Any]:
    """Every row, to be searched and sorted; with_card: indices of the rows that can be listened to."""
    shown = [
        one for one in MEASURES if one.name != "wer_per_item" and any(value_of(one, row) is not None for row in rows)
    ]
    heads = [(one.title, "ascending" if one.better > 0 else "descending") for one in shown]
    lines = []
    for index, row in enumerate(rows):
        values = [(value_of(one, row), one.digits) for one in shown]
        values += [(number(row.get("duration_sec")), 2), (number(row.get("num_retries")), 0)]
        said, heard = str(row.get("reference") or ""), str(row.get("heard") or "")
        lines.append(
            {
                "index": index,
                "has_card": index in with_card,
                "id": str(row.get("id") or ""),
                "group": group_of(row),
                "text": str(row.get("text") or said),
                "heard": None if heard == said else heard or "(nothing)",
                "faults": ", ".join(faults_of(row)),
                "numbers": [("", "–") if v is None else (f"{v:.6g}", f"{v:.{digits}f}") for v, digits in values],
            }
        )
    return {"heads": [*heads, ("seconds", "descending"), ("retries", "descending")], "rows": lines}
