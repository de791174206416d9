"""The pictures of the evaluation page: charts and spectrograms as SVG that takes its colours from the page."""

from __future__ import annotations

import base64
import io
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from voicegraft.evaluation.metrics.measures import BY_NAME, Measure, values_of
from voicegraft.evaluation.reports.page_values import (
    SPEECH,
    Row,
    estimate_of,
    faults_of,
    number,
    stage_of,
    stages_of,
    value_of,
    voice_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from voicegraft.audio.mel import LogMel

# Drawn in these, then replaced by the page's variables, which differ between light and dark. The order of
# Okabe and Ito's palette, made for eyes of every kind; voices differ in shape as well.
_INK = "#010203"
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_MARKERS = "osD^vPX"
_LINES = ("-", "--", ":", "-.")
_MAX_POINTS = 300  # per stage and voice; more would make the page large and the cloud solid
_STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _INK,
    "grid.alpha": 0.15,
    "legend.frameon": False,
    "legend.fontsize": 9,
}


# Measures with a dot and its interval per stage, a cloud of items per stage, a histogram of the stage speech: their axes.
_PER_STAGE = {
    "wer": "errors / words; less is better",
    "cer": "errors / characters; less is better",
    "mos": "predicted opinion, 1 to 5; more is better",
    "similarity": "cosine with the recordings; more is better",
    "prompt_similarity": "cosine with the prompt; more is better",
}
_PER_ITEM = {
    "wer": "errors / words of an item",
    "mos": "predicted opinion, 1 to 5",
    "similarity": "cosine with the recordings",
    "letters_per_sec": "speaking rate, letters/s",
    "pitch_hz": "median pitch, Hz",
    "pitch_iqr_semitones": "between the quartiles, semitones",
    "voiced_share": "share of frames with a pitch",
    "pauses_per_sec": "pauses per second",
    "pause_sec": "length of a pause, s",
}
_HISTOGRAMS = {
    "rtf": "seconds of computing / seconds of audio",
    "first_audio_sec": "from the call to the first chunk, s",
}


@dataclass(frozen=True)
class Chart:
    title: str
    svg: str


def draw_charts(rows: Sequence[Row], summary: Sequence[Mapping[str, Any]]) -> dict[str, list[Chart]]:
    """Title of a group -> its charts: every one that the rows and their summary hold numbers for."""
    voices = list(dict.fromkeys(map(voice_of, [*summary, *rows])))
    spoken = [row for row in rows if stage_of(row) == SPEECH]
    last = spoken or [row for row in rows if stage_of(row) == stages_of(rows)[-1]]
    groups: dict[str, list[Chart | None]] = {
        "Stages": [_dots(summary, voices, BY_NAME[name], axis) for name, axis in _PER_STAGE.items()],
        "Items beside the recordings": [_strips(rows, voices, BY_NAME[name], axis) for name, axis in _PER_ITEM.items()],
        "Speed": [_histogram(spoken, voices, BY_NAME[name], axis) for name, axis in _HISTOGRAMS.items()],
        "Where it fails": [_against_length(last, voices), _fault_counts(last)],
    }
    drawn = {title: [chart for chart in charts if chart] for title, charts in groups.items()}
    return {title: charts for title, charts in drawn.items() if charts}


def _dots(summary: Sequence[Mapping[str, Any]], voices: Sequence[str], measure: Measure, axis: str) -> Chart | None:
    """A value with its interval per stage and voice."""
    found = {_group(one): span for one in summary if (span := estimate_of(one, measure.name))}
    if not found:
        return None
    places = _places(found, voices)

    def draw(axes: Axes) -> None:
        for group, span in found.items():
            colour, marker = _look(voices, group[1])
            axes.plot([span.low, span.high], [places[group]] * 2, color=colour, linewidth=2)
            axes.plot([span.value], [places[group]], marker, color=colour, markersize=7, label=group[1])
            axes.annotate(
                f"{span.value:.{measure.digits}f}",
                (span.value, places[group]),
                xytext=(0, 5),
                textcoords="offset points",
                ha="center",
            )
        _name_stages(axes, places, axis, voices)

    return Chart(measure.title, _svg(draw, 0.9 + 0.36 * (max(places.values()) + 1), measure.title))


def _strips(rows: Sequence[Row], voices: Sequence[str], measure: Measure, axis: str) -> Chart | None:
    """Every item as a dot, with a bar from the first to the third quartile and a line at the median."""
    members: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if value_of(measure, row) is not None:
            members.setdefault(_group(row), []).append(row)
    groups = {group: values_of(measure, mine) for group, mine in members.items()}
    if not groups:
        return None
    places = _places(groups, voices)

    def draw(axes: Axes) -> None:
        for group, values in groups.items():
            colour, marker = _look(voices, group[1])
            place, ranked = places[group], np.sort(values)
            shown = ranked[np.unique(np.linspace(0, len(ranked) - 1, min(len(ranked), _MAX_POINTS)).astype(int))]
            size, alpha = (5, 0.5) if len(shown) <= 60 else (3, 0.35)
            axes.plot(shown, place + 0.6 * _jitter(len(shown)), marker, color=colour, alpha=alpha, markersize=size,
                      markeredgewidth=0, label=group[1])  # fmt: skip
            low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
            axes.plot([low, high], [place, place], color=_INK, linewidth=1.5)
            axes.plot([middle, middle], [place - 0.3, place + 0.3], color=_INK, linewidth=2.5)
        _name_stages(axes, places, axis, voices)

    return Chart(measure.title, _svg(draw, 0.9 + 0.36 * (max(places.values()) + 1), f"{measure.title} of items"))


def _histogram(rows: Sequence[Row], voices: Sequence[str], measure: Measure, axis: str) -> Chart | None:
    values: dict[str, list[float]] = {}
    for row in rows:
        if (value := value_of(measure, row)) is not None:
            values.setdefault(voice_of(row), []).append(value)
    if not values:
        return None
    everything = np.concatenate([np.asarray(found) for found in values.values()])

    def draw(axes: Axes) -> None:
        num_bins = min(max(8, int(1.5 * math.sqrt(len(everything)))), 40)
        edges = np.histogram_bin_edges(everything, num_bins).tolist()
        for voice, found in values.items():
            style = _LINES[voices.index(voice) % len(_LINES)]
            axes.hist(found, bins=edges, histtype="step", color=_look(voices, voice)[0], linewidth=2, linestyle=style,
                      label=voice)  # fmt: skip
        axes.set_xlabel(axis)
        axes.set_ylabel("items")
        axes.locator_params("y", integer=True)
        axes.grid(axis="y")
        _legend(axes, list(values))

    return Chart(measure.title, _svg(draw, 2.5, measure.title))


def _against_length(rows: Sequence[Row], voices: Sequence[str]) -> Chart | None:
    found = [(number(row.get("num_words")), value_of(BY_NAME["wer"], row), voice_of(row)) for row in rows]
    points = [(words, wer, voice) for words, wer, voice in found if words and wer is not None]
    if len({words for words, _, _ in points}) < 2:
        return None
    words, wer = np.array([p[0] for p in points], float), np.array([p[1] for p in points])

    def draw(axes: Axes) -> None:
        for voice in dict.fromkeys(name for _, _, name in points):
            colour, marker = _look(voices, voice)
            mine = np.array([name == voice for _, _, name in points])
            axes.plot((words + 0.5 * _jitter(len(points)))[mine], wer[mine], marker, color=colour, alpha=0.5,
                      markersize=5, markeredgewidth=0, label=voice)  # fmt: skip
        # As many items in each bin, pooled over voices; the WER of a bin is errors over words, as everywhere.
        bins = [
            b for b in np.array_split(np.argsort(words, kind="stable"), min(6, max(2, len(points) // 10))) if len(b)
        ]
        axes.plot([words[b].mean() for b in bins], [(wer * words)[b].sum() / words[b].sum() for b in bins],
                  "-", color=_INK, linewidth=1.8, label="about as many words")  # fmt: skip
        axes.set_xlabel("words in the text")
        axes.set_ylabel("WER of the item")
        axes.set_ylim(bottom=-0.04)
        axes.grid(axis="y")
        _legend(axes, [*voices, "about as many words"])

    return Chart("WER against length", _svg(draw, 2.7, "WER against length"))


def _fault_counts(rows: Sequence[Row]) -> Chart | None:
    counts = Counter(kind for row in rows for kind in faults_of(row))
    if not counts:
        return None

    def draw(axes: Axes) -> None:
        bars = axes.barh(list(counts), list(counts.values()), 0.6, color=_COLOURS[0])
        axes.bar_label(bars, padding=3)
        axes.invert_yaxis()
        axes.locator_params("x", integer=True)
        axes.set_xlabel("items; one with two kinds counts in both")

    return Chart("Faults", _svg(draw, 0.9 + 0.3 * len(counts), "Faults"))


def _group(row: Mapping[str, Any]) -> tuple[str, str]:
    return stage_of(row), voice_of(row)


def _places(groups: Iterable[tuple[str, str]], voices: Sequence[str]) -> dict[tuple[str, str], float]:
    """Heights in the chart: a line per voice, some room between stages, the first stage at 0."""
    groups = set(groups)
    places: dict[tuple[str, str], float] = {}
    height = 0.0
    for stage in stages_of([{"stage": stage} for stage, _ in groups]):
        mine = [(stage, voice) for voice in voices if (stage, voice) in groups]
        places.update({group: height + line for line, group in enumerate(mine)})
        height += len(mine) + 0.4
    return places


def _name_stages(axes: Axes, places: Mapping[tuple[str, str], float], label: str, voices: Sequence[str]) -> None:
    stages: dict[str, list[float]] = {}
    for (stage, _), place in places.items():
        stages.setdefault(stage, []).append(place)
    names = [stage.replace(" re-synthesis", "\nre-synthesis") for stage in stages]
    axes.set_yticks([sum(mine) / len(mine) for mine in stages.values()], names)
    axes.set_ylim(max(places.values()) + 0.6, -0.7)
    axes.set_xlabel(label)
    axes.margins(x=0.1)
    axes.grid(axis="x")
    axes.locator_params("x", nbins=6)
    _legend(axes, voices)


def _legend(axes: Axes, names: Sequence[str]) -> None:
    """Names what is drawn, in this order, above the chart; one thing needs no legend."""
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    shown = [name for name in names if name in handles]
    if len(names) > 1:
        axes.legend([handles[name] for name in shown], shown, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)


def _look(voices: Sequence[str], voice: str) -> tuple[str, str]:
    """Colour and marker of a voice, the same in every chart."""
    number = voices.index(voice)
    return _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]


def _jitter(num_points: int) -> np.ndarray:
    """Offsets from -0.5 to 0.5 that fill the width evenly and are the same every time."""
    return (np.arange(num_points) * 0.618034) % 1 - 0.5


def _svg(draw: Callable[[Axes], None], height: float, label: str) -> str:
    """What `draw` draws, as SVG to stand inside HTML; height in inches."""
    import matplotlib
    from matplotlib.figure import Figure

    style: Any = {**_STYLE, "svg.hashsalt": label}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(4.5, height), layout="constrained")
        draw(figure.subplots())
        file = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'<g id="[a-z0-9]+_\d+"', "<g", svg)  # the same in every figure; ids are to be unique
    for place, colour in enumerate(_COLOURS):
        svg = svg.replace(colour, f"var(--voice{place})")
    svg = svg.replace(_INK, "currentColor")
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)


def draw_spectrogram(samples: np.ndarray, sample_rate: int, span_sec: float) -> str:
    """A log-mel spectrogram of samples [T] as SVG with axes for seconds and kHz; span_sec: where its time axis ends.

    The picture inside is a PNG as a data URI, 10 ms by 1/80 of the mel scale per point, black 75 dB below white.
    """
    import torch

    log_mel = _log_mel(sample_rate)
    config = log_mel.config
    padded = np.pad(np.asarray(samples, np.float32), (0, max(config.hop - len(samples), 0)))
    levels = log_mel(torch.from_numpy(padded)).numpy()[::-1] * 20 / math.log(10)  # dB, high bands on top
    left, top, width, height = 44, 4, 420, 120
    wide = width * min(len(padded) / sample_rate / span_sec, 1.0)
    step = next((s for s in (0.1, 0.2, 0.5, 1, 2, 5) if span_sec / s <= 10), 10)
    times = np.arange(0, span_sec - 0.3 * step, step)
    ticks = [
        f'<text x="{left + width * t / span_sec:.1f}" y="{top + height + 14}" text-anchor="middle">{t:g}'
        f"{' s' if t == times[-1] else ''}</text>"
        for t in times
    ]
    tones = [hz for hz in (500, 1000, 2000, 4000, 8000) if hz < sample_rate / 2]
    for hz in tones:
        band = float(log_mel.filters[:, round(hz * config.num_fft / sample_rate)].argmax()) + 0.5
        y = top + height * (1 - band / config.num_mels) + 4
        unit = " kHz" if hz == tones[-1] else ""
        ticks.append(f'<text x="{left - 4}" y="{y:.1f}" text-anchor="end">{hz / 1000:g}{unit}</text>')
    return (
        f'<svg class="spectrogram" role="img" aria-label="log-mel spectrogram" viewBox="0 0 {left + width + 8} {height + 22}"'
        f' data-left="{left}" data-wide="{wide:.1f}">'
        f'<image x="{left}" y="{top}" width="{wide:.1f}" height="{height}" preserveAspectRatio="none" href="{_png(levels)}"/>'
        f'<line class="head" x1="{left}" x2="{left}" y1="{top}" y2="{top + height}"/>{"".join(ticks)}</svg>'
    )


@cache
def _log_mel(sample_rate: int) -> LogMel:
    from voicegraft.audio.mel import LogMel, MelConfig

    return LogMel(MelConfig(sample_rate, hop=sample_rate // 100, high_hz=sample_rate / 2))


def _png(levels: np.ndarray) -> str:
    """Levels [bands, frames] in dB -> data URI; 64 colours keep it small."""
    from matplotlib import colormaps
    from PIL import Image

    top = max(float(np.quantile(levels, 0.998)), -40.0)  # silence stays black
    shades = np.clip((levels - top + 75) / 75 * 63, 0, 63).astype(np.uint8)
    picture = Image.fromarray(shades)
    picture.putpalette((colormaps["magma"](np.linspace(0, 1, 64))[:, :3] * 255).astype(np.uint8).tobytes())
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
