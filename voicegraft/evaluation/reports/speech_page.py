"""The evaluation as one HTML page that needs nothing besides itself: numbers, plots, the worst items to listen to."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from voicegraft.audio.io import encode_flac
from voicegraft.core.files import write_text
from voicegraft.evaluation.metrics.measures import BY_NAME
from voicegraft.evaluation.metrics.rates import align_words, normalize_transcript
from voicegraft.evaluation.reports.page_plots import Chart, draw_charts, draw_spectrogram
from voicegraft.evaluation.reports.page_tables import fact_table, item_table, summary_table, tiles
from voicegraft.evaluation.reports.page_values import (
    RECORDINGS,
    SPEECH,
    Row,
    faults_of,
    number,
    stage_of,
    stages_of,
    value_of,
    voice_of,
)
from voicegraft.evaluation.reports.plots import need_matplotlib
from voicegraft.evaluation.speech.items import Clip

_TEMPLATE = Path(__file__).parent / "speech_page.html"
# Lists of cards: name in the page -> title. The first that is not empty is open.
_LISTS = {"faults": "Faults", "wer": "Most words wrong", "mos": "Lowest MOS", "typical": "Typical"}
_ON_CARD = ("wer", "mos", "similarity", "rtf")
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

    report: as of `report.write_report`; what it lacks is left out of the page. audio: the clip of a row, None if
    there is none. num_worst: items per stage with the most words wrong, and with the lowest MOS; the items with
    faults all have a card. Clips are put in, the worst first, while the page stays below max_bytes.
    Raises VoicegraftError where matplotlib is missing.
    """
    need_matplotlib()
    rows, summary = list(report.get("rows") or ()), list(report.get("summary") or ())
    about, environment = dict(report.get("about") or {}), dict(report.get("environment") or {})
    lists = _choose(rows, num_worst)
    name = about.get("pack") or "recordings"
    parts = {
        "title": f"Speech evaluation: {escape(str(name))}",
        "about": _about(about, rows),
        "tiles": tiles(summary, rows),
        "summary": summary_table(summary),
        "charts": "".join(
            f'<h3>{title}</h3><div class="charts">{"".join(map(_figure, charts))}</div>'
            for title, charts in draw_charts(rows, summary).items()
        ),
        "items": item_table(rows, {index for index, _ in lists}),
        "facts": fact_table({**about, **environment}),
    }
    template = _TEMPLATE.read_text(encoding="utf-8")
    room = max_bytes - len((template + "".join(parts.values())).encode())
    parts["listen"], embedded = _cards(rows, lists, audio, room)
    write_text(out / "report.html", re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], template))
    return embedded


def _figure(chart: Chart) -> str:
    return f"<figure><h4>{escape(chart.title[:1].upper() + chart.title[1:])}</h4>{chart.svg}</figure>"


def _about(about: Mapping[str, Any], rows: Sequence[Row]) -> str:
    facts = [("pack", about.get("pack")), ("fingerprint", about.get("fingerprint")), ("prompts", about.get("prompts"))]
    told = [f"{name} <b>{escape(str(value))}</b>" for name, value in facts if value is not None]
    told.append(f"{len(rows)} items in {len(stages_of(rows))} stages")
    if about.get("date"):
        told.append(f"measured {escape(str(about['date']))}")
    return " · ".join(told)


def _choose(rows: Sequence[Row], num_worst: int) -> list[tuple[int, dict[str, int]]]:
    """The items to listen to as (index of the row, list -> rank in it), those to embed first in front.

    Every stage has its own lists; the recordings only if there is nothing else.
    """
    stages = [stage for stage in stages_of(rows) if stage != RECORDINGS] or stages_of(rows)
    stages.sort(key=lambda stage: stage != SPEECH)
    chosen: list[tuple[int, dict[str, int]]] = []
    for stage in stages:
        mine = [(index, row) for index, row in enumerate(rows) if stage_of(row) == stage]
        by_wer = sorted((pair for pair in mine if _wer(pair[1])), key=lambda pair: -_wer(pair[1]))
        scored = [(mos, index, row) for index, row in mine if (mos := value_of(BY_NAME["mos"], row)) is not None]
        by_mos = [(index, row) for _, index, row in sorted(scored, key=lambda one: one[0])]
        middle = max(len(by_mos) - _NUM_TYPICAL, 0) // 2
        members = {
            "faults": [p for p in by_wer if faults_of(p[1])] + [p for p in mine if faults_of(p[1]) and not _wer(p[1])],
            "wer": by_wer[:num_worst],
            "mos": by_mos[:num_worst],
            "typical": by_mos[middle : middle + _NUM_TYPICAL],
        }
        ranks: dict[int, dict[str, int]] = {}
        for name, pairs in members.items():
            for rank, (index, _) in enumerate(pairs):
                ranks.setdefault(index, {})[name] = rank
        chosen += sorted(ranks.items(), key=lambda one: min(one[1].values()))
    return chosen


def _wer(row: Row) -> float:
    return value_of(BY_NAME["wer"], row) or 0.0


def _cards(
    rows: Sequence[Row], lists: Sequence[tuple[int, dict[str, int]]], audio: Callable[[Row], Clip | None], room: int
) -> tuple[str, list[Row]]:
    """HTML of the section "Listen", and the rows whose clips are inside; room: bytes that it may take."""
    if not lists:
        return "<p>There is nothing to listen to.</p>", []
    recorded = _recorded(rows)
    stages = stages_of([rows[index] for index, _ in lists])
    stages.sort(key=lambda stage: stage != SPEECH)
    bare = {index: _card(index, rows[index], ranks) for index, ranks in lists}
    # Besides the cards: what stands around them, and a note in each that has no sound.
    room -= len("".join(bare.values()).encode()) + 4_000 + 80 * len(bare)
    cards, embedded, num_full, num_missing = [], [], 0, 0
    for index, _ in lists:
        row = rows[index]
        sounds = ""
        if not num_full:
            voice, words = voice_of(row), row.get("reference")
            beside = recorded.get((voice, words, row.get("id")), recorded.get((voice, words)))
            pairs = [(one, audio(one)) for one in (row, beside if beside is not row else None) if one is not None]
            sounds = _sounds([(one, clip) for one, clip in pairs if clip is not None and len(clip.samples)])
            missing = pairs[0][1] is None or not len(pairs[0][1].samples)
        if num_full or len(sounds) > room:  # the first that does not fit is the last that is tried
            num_full += 1
            sounds = '<p class="note">Left out to keep the page small.</p>'
        elif missing:
            num_missing += 1
            sounds = '<p class="note">No sound was kept of this item, or it made none.</p>'
        else:
            embedded.append(row)
            room -= len(sounds)
        cards.append(f"{bare[index]}{sounds}</article>")
    notes = [
        f"{len(embedded)} items can be heard here.",
        f"{num_full} more were left out to keep the page small." if num_full else "",
        f"{num_missing} items have no sound." if num_missing else "",
    ]
    used = [name for name in _LISTS if any(name in ranks for _, ranks in lists)]
    html = (
        _pills("stage", "Stage", {stage: escape(stage) for stage in stages})
        + _pills("list", "Show", {name: f'{_LISTS[name]} (<span data-lists="{name}"></span>)' for name in used})
        + f'<p class="note">{" ".join(filter(None, notes))} How words are marked: <del class="missing">struck out</del>'
        ' was not heard, <span class="added">+ word</span> was heard in addition, one word below another was heard'
        " instead of it. A click into a spectrogram plays from there.</p>"
        '<p id="none" hidden>No item of this stage is in this list.</p>'
        f'<div class="cards">{"".join(cards)}</div><p><button id="more" hidden>Show all</button></p>'
    )
    return html, embedded


def _recorded(rows: Sequence[Row]) -> dict[tuple[Any, ...], Row]:
    """(voice, reference, id) -> the recording; (voice, reference) -> the first one of these words."""
    found: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        if stage_of(row) == RECORDINGS:
            voice, words = voice_of(row), row.get("reference")
            found[voice, words, row.get("id")] = row
            found.setdefault((voice, words), row)
    return found


def _pills(name: str, title: str, options: Mapping[str, str]) -> str:
    """A choice of one; the values of `options` are HTML."""
    labels = [
        f'<label><input type="radio" name="{name}" value="{escape(value)}"{" checked" * (place == 0)}>{label}</label>'
        for place, (value, label) in enumerate(options.items())
    ]
    return f'<fieldset class="pills"><legend>{title}</legend>{"".join(labels)}</fieldset>'


def _card(index: int, row: Row, ranks: Mapping[str, int]) -> str:
    """A card, still open at its end."""
    stage = escape(stage_of(row))
    badges = [f'<span class="badge">{escape(kind)}</span>' for kind in faults_of(row)]
    badges += [
        f'<span class="why">{_LISTS[name]}{f" #{rank + 1}" if name != "typical" else ""}</span>'
        for name, rank in ranks.items()
        if name != "faults"
    ]
    shown = [(BY_NAME[name], value_of(BY_NAME[name], row)) for name in _ON_CARD]
    facts = [f"<span>{m.title} <b>{value:.{m.digits}f}</b></span>" for m, value in shown if value is not None]
    for name, key in (("seconds", "duration_sec"), ("retries", "num_retries")):
        if value := number(row.get(key)):
            facts.append(f"<span>{name} <b>{value:.3g}</b></span>")
    written, reference = str(row.get("text") or ""), str(row.get("reference") or "")
    # Only where more than signs and case were taken away, such as numbers.
    told = written if normalize_transcript(written) != reference else ""
    note = f'<p class="note">written: {escape(told)}</p>' if told else ""
    ordered = "".join(f' data-{name}="{rank}"' for name, rank in ranks.items())
    return (
        f'<article class="card" id="item-{index}" data-stage="{stage}"{ordered}>'
        f"<h3>{escape(str(row.get('id') or ''))} · {escape(voice_of(row))} · {stage} {''.join(badges)}</h3>"
        f'<div class="words"><div class="facts">{"".join(facts)}</div>{note}{_diff(row)}</div>'
    )


def _diff(row: Row) -> str:
    """The text with what was heard instead below each word that differs."""
    words = []
    for said, heard in align_words(str(row.get("reference") or ""), str(row.get("heard") or "")):
        said, heard = escape(said), escape(heard)
        if said == heard:
            words.append(f"<span>{said}</span>")
        elif not heard:
            words.append(f'<span title="not heard"><del>{said}</del></span>')
        elif not said:
            words.append(f'<span class="plus" title="heard in addition"><ins>+ {heard}</ins></span>')
        else:
            words.append(f'<span class="sub" title="heard instead"><del>{said}</del><ins>{heard}</ins></span>')
    return f'<div class="diff">{" ".join(words)}</div>'


def _sounds(clips: Sequence[tuple[Row, Clip]]) -> str:
    """Spectrograms on one time axis, with players."""
    figures = []
    longest = max((min(len(clip.samples) / clip.sample_rate, _LONGEST_SEC) for _, clip in clips), default=0.0)
    for row, clip in clips:
        samples = np.asarray(clip.samples[: int(_LONGEST_SEC * clip.sample_rate)], np.float32)
        cut = len(samples) < len(clip.samples)
        note = f" (the first {_LONGEST_SEC:g} s)" if cut else ""
        flac = base64.b64encode(encode_flac(samples, clip.sample_rate)).decode()
        stage = escape(stage_of(row))
        figures.append(
            f"<figure><figcaption>{stage}{note}</figcaption>{draw_spectrogram(samples, clip.sample_rate, longest)}"
            f'<audio controls preload="metadata" aria-label="{stage}" src="data:audio/flac;base64,{flac}"></audio></figure>'
        )
    return f'<div class="sounds">{"".join(figures)}</div>'
