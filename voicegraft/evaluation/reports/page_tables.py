"""The tables of the evaluation page: the headline, stages by voices, and every item."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from voicegraft.evaluation.metrics.measures import BY_NAME, MEASURES
from voicegraft.evaluation.reports.page_values import (
    RECORDINGS,
    SPEECH,
    Row,
    Span,
    estimate_of,
    faults_of,
    measured,
    number,
    span_of,
    stage_of,
    stages_of,
    value_of,
    voice_of,
)
from voicegraft.evaluation.reports.summary import fact

Summary = Mapping[str, Any]
_NONE = "–"


def _first_audio_ms(one: Summary) -> Span | None:
    return span_of((one.get("first_audio_ms") or {}).get("median"))


# Of a voice: title, value, format.
_HEADLINE: tuple[tuple[str, Callable[[Summary], Span | None], str], ...] = (
    ("Word error rate (WER)", lambda one: estimate_of(one, "wer"), ".3f"),
    ("MOS, predicted", lambda one: estimate_of(one, "mos"), ".2f"),
    ("Same voice (cosine)", lambda one: estimate_of(one, "similarity"), ".3f"),
    ("RTF", lambda one: estimate_of(one, "rtf"), ".3f"),
    ("First audio, median ms", _first_audio_ms, ".0f"),
)


def tiles(summary: Sequence[Summary], rows: Sequence[Row]) -> str:
    """What matters most of each voice in the stage `speech` (else in the last one), beside its recordings."""
    stages = stages_of(summary)
    if not stages:
        return ""
    stage = SPEECH if SPEECH in stages else stages[-1]
    human = {voice_of(one): one for one in summary if stage_of(one) == RECORDINGS != stage}
    voices = []
    for one in summary:
        if stage_of(one) == stage:
            mine = [row for row in rows if (stage_of(row), voice_of(row)) == (stage, voice_of(one))]
            beside = human.get(voice_of(one), {})
            found = "".join(_tile(title, pick(one), pick(beside), form) for title, pick, form in _HEADLINE)
            name = f'<h3 class="voice">{escape(voice_of(one))}</h3>'
            voices.append(f'{name}<div class="tiles">{found}{_fault_tile(mine)}</div>')
    other = " The prompts may be other sentences than the recordings." if human and stage == SPEECH else ""
    return f'<p class="soft">Stage <b>{escape(stage)}</b>, 95 % intervals in brackets.{other}</p>{"".join(voices)}'


def _tile(title: str, span: Span | None, human: Span | None, form: str) -> str:
    """A value that is not there makes no tile."""
    if span is None:
        return ""
    told = [_interval(span, form), f"recordings {human.value:{form}}" if human else ""]
    lines = "".join(f'<div class="soft">{line}</div>' for line in told if line)
    return f'<div class="tile"><h4>{title}</h4><div class="value">{span.value:{form}}</div>{lines}</div>'


def _fault_tile(rows: Sequence[Row]) -> str:
    bad = [kinds for row in rows if (kinds := faults_of(row))]
    counts = Counter(kind for kinds in bad for kind in kinds)
    told = [f"{escape(kind)} {count}" for kind, count in counts.items()]
    if not told and any(row.get("faults_judged") is False for row in rows):
        told.append("nobody listened for repeats and skips")
    return (
        f'<div class="tile{" bad" if bad else ""}"><h4>Items with faults</h4>'
        f'<div class="value">{len(bad)} <small>of {len(rows)}</small></div><div class="soft">{", ".join(told)}</div></div>'
    )


def summary_table(summary: Sequence[Summary]) -> str:
    """Stages by voices; columns that hold nothing are left out."""
    if not summary:
        return "<p>There is no summary.</p>"
    columns: dict[str, list[str]] = {"clips": [str(one.get("num_clips", _NONE)) for one in summary]}
    for name in ("wer", "cer", "mos", "similarity", "prompt_similarity", "rtf"):
        columns[BY_NAME[name].title] = [_estimate_cell(one, name) for one in summary]
    columns["first audio ms"] = [_first_audio_cell(one) for one in summary]
    for kind in dict.fromkeys(kind for one in summary for kind in one.get("faults") or ()):
        columns[str(kind)] = [_rate_cell((one.get("faults") or {}).get(kind), one.get("num_clips")) for one in summary]
    columns["retries"] = [str(one["num_retries"]) if one.get("num_retries") else _NONE for one in summary]
    for measure in MEASURES:
        if measure.better == 0:
            columns[measure.title] = [_estimate_cell(one, measure.name) for one in summary]
    for key in dict.fromkeys(key for one in summary for key in one.get("mos") or () if key != "ovrl"):
        columns[f"MOS {key}"] = [_cell(span_of((one.get("mos") or {}).get(key)), ".2f") for one in summary]
    columns["other voices"] = [_others_cell(one) for one in summary]
    columns = {title: cells for title, cells in columns.items() if any(cell != _NONE for cell in cells)}
    lines = []
    for number_, one in enumerate(summary):
        stage = escape(stage_of(one)).replace("-", "\u2011")  # a hyphen at which no line breaks
        cells = "".join(f'<td class="number">{column[number_]}</td>' for column in columns.values())
        lines.append(f'<tr><th scope="row">{stage}<small>{escape(voice_of(one))}</small></th>{cells}</tr>')
    head = "".join(f'<th scope="col" class="number">{escape(title)}</th>' for title in columns)
    return (
        '<p class="soft">Rates and melody have their difference to the recordings in their third line (Δ).</p>'
        f'<div class="wide summary"><table><thead><tr><th scope="col">stage, voice</th>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _cell(span: Span | None, form: str) -> str:
    if span is None:
        return _NONE
    interval = _interval(span, form)
    return f"{span.value:{form}}" + (f"<small>{interval}</small>" if interval else "")


def _interval(span: Span, form: str) -> str:
    return f"[{span.low:{form}}, {span.high:{form}}]" if span.high > span.low else ""


def _estimate_cell(one: Summary, name: str) -> str:
    form = f".{BY_NAME[name].digits}f"
    cell = _cell(estimate_of(one, name), form)
    difference = number(((one.get("against_recordings") or {}).get(name) or {}).get("difference"))
    return cell if difference is None else f"{cell}<small>Δ {difference:+{form}}</small>"


def _first_audio_cell(one: Summary) -> str:
    high = number((one.get("first_audio_ms") or {}).get("p95"))
    cell = _cell(_first_audio_ms(one), ".0f")
    return cell if high is None else f"{cell}<small>p95 {high:.0f}</small>"


def _rate_cell(rate: Any, num_clips: Any) -> str:
    if (span := span_of(rate)) is None:
        return _NONE
    count = number(rate.get("num")) if isinstance(rate, Mapping) else None
    told = f"{100 * span.value:.1f} %" if count is None else f"{count:.0f}/{num_clips}"
    return f"{told}<small>[{100 * span.low:.1f}, {100 * span.high:.1f}] %</small>"


def _others_cell(one: Summary) -> str:
    alike = {name: span_of(value) for name, value in (one.get("similarity") or {}).items() if name != one.get("voice")}
    return "".join(f"<div>{escape(str(n))} {span.value:.3f}</div>" for n, span in alike.items() if span) or _NONE


def item_table(rows: Sequence[Row], with_card: set[int]) -> str:
    """Every row, to be searched and sorted; with_card: indices of the rows that can be listened to above."""
    if not rows:
        return "<p>There are no items.</p>"
    shown = measured(rows)
    names = ("item", "stage", "voice", "text, and what was heard", "faults")
    heads = [_head(name, "ascending", "") for name in names]
    heads += [_head(one.title, "ascending" if one.better > 0 else "descending", "number") for one in shown]
    heads += [_head(name, "descending", "number") for name in ("seconds", "retries")]
    lines = []
    for index, row in enumerate(rows):
        stage, name = escape(stage_of(row)), escape(str(row.get("id") or ""))
        said, heard = str(row.get("reference") or ""), str(row.get("heard") or "")
        text = escape(str(row.get("text") or said))
        if heard != said:
            text += f"<small>heard: {escape(heard) or '(nothing)'}</small>"
        item = f'<a href="#item-{index}" title="listen">\u25b6 {name}</a>' if index in with_card else name
        cells = [
            f'<td data-v="{name}">{item}</td><td>{stage}</td><td>{escape(voice_of(row))}</td><td class="text">{text}</td>',
            f'<td class="faults">{escape(", ".join(faults_of(row)))}</td>',
            *(_number_cell(value_of(one, row), one.digits) for one in shown),
            _number_cell(number(row.get("duration_sec")), 2),
            _number_cell(number(row.get("num_retries")), 0),
        ]
        lines.append(f'<tr data-stage="{stage}">{"".join(cells)}</tr>')
    stages = "".join(f'<option value="{escape(stage)}">{escape(stage)}</option>' for stage in stages_of(rows))
    return (
        '<div class="tools"><input type="search" placeholder="find words, items, faults" aria-label="find">'
        f'<select aria-label="stage"><option value="">all stages</option>{stages}</select>'
        '<span class="soft" id="count" role="status"></span></div>'
        f'<div class="wide"><table><thead><tr>{"".join(heads)}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
    )


def _head(title: str, first: str, kind: str) -> str:
    """first: the order after the first click."""
    return f'<th scope="col" class="{kind}" data-first="{first}"><button>{escape(title)}</button></th>'


def _number_cell(value: float | None, digits: int) -> str:
    if value is None:
        return f'<td class="number" data-v="">{_NONE}</td>'
    return f'<td class="number" data-v="{value:.6g}">{value:.{digits}f}</td>'


def fact_table(facts: Mapping[str, Any]) -> str:
    """What was evaluated and on what, without what is None."""
    told = "".join(
        f"<dt>{escape(str(name))}</dt><dd>{escape(fact(value))}</dd>"
        for name, value in facts.items()
        if value is not None
    )
    return f"<dl>{told}</dl>"
