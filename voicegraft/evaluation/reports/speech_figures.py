"""The figures of the page about speech, and its spectrograms."""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from voicegraft.evaluation.metrics.measures import BY_NAME, PROSODY
from voicegraft.evaluation.reports.document import COLOURS, Figure, draw
from voicegraft.evaluation.reports.row_values import SPEECH, Row, faults_of, group_of, number, stages_of, value_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

    from voicegraft.audio.mel import LogMel

Group = tuple[str, str]  # stage, voice
# Measure -> its axis.
_AXES = {
    "wer": "errors / words",
    "cer": "errors / characters",
    "mos": "predicted opinion, 1 to 5",
    "similarity": "cosine with the recordings",
    "prompt_similarity": "cosine with the prompt",
    "letters_per_sec": "speaking rate, letters/s",
    "pitch_hz": "median pitch, Hz",
    "pitch_iqr_semitones": "between the quartiles, semitones",
    "voiced_share": "share of frames with a pitch",
    "pauses_per_sec": "pauses per second",
    "pause_sec": "mean length of an item's pauses, s",
    "rtf": "seconds of computing / seconds of audio",
    "first_audio_sec": "from the call to the first chunk, s",
}
_PER_STAGE = ("wer", "cer", "mos", "similarity", "prompt_similarity")  # a dot with its interval per stage
_PER_ITEM = ("wer", "mos", "similarity", "letters_per_sec", *PROSODY[:-1])  # a box of items per stage
_HISTOGRAMS = ("rtf", "first_audio_sec")  # of the stage speech


def speech_figures(rows: Sequence[Row], summary: Sequence[Mapping[str, Any]]) -> dict[str, list[Figure]]:
    """Title of a group -> its figures: every one that the rows and their summary hold numbers for."""
    spoken = [row for row in rows if group_of(row)[0] == SPEECH]
    last = spoken or [row for row in rows if group_of(row)[0] == stages_of(rows)[-1]]
    groups = {
        "Stages": [_estimates(summary, name) for name in _PER_STAGE],
        "Items beside the recordings": [_boxes(rows, name) for name in _PER_ITEM],
        "Speed": [_histogram(spoken, name) for name in _HISTOGRAMS],
        "Where it fails": [_against_length(last), _fault_counts(last)],
    }
    drawn = {title: [figure for figure in figures if figure] for title, figures in groups.items()}
    return {title: figures for title, figures in drawn.items() if figures}


def _estimates(summary: Sequence[Mapping[str, Any]], name: str) -> Figure | None:
    """A value with its interval per stage and voice."""
    found = {
        group_of(one): estimate
        for one in summary
        if (estimate := (one.get("estimates") or {}).get(name)) and number(estimate.get("value")) is not None
    }
    if not found:
        return None
    measure = BY_NAME[name]
    axis = f"{_AXES[name]}; {'more' if measure.better > 0 else 'less'} is better"

    def drawing(canvas: Canvas) -> None:
        axes = canvas.subplots()
        for (group, estimate), place in zip(found.items(), _name_groups(axes, list(found), axis), strict=True):
            value = estimate["value"]
            reach = [[value - estimate.get("low", value)], [estimate.get("high", value) - value]]
            axes.errorbar([value], [place], xerr=reach, fmt="o", color=_colour(group, list(found)))
            told = f"{value:.{measure.digits}f}"
            axes.annotate(told, (value, place), xytext=(0, 5), textcoords="offset points", ha="center")

    return draw(f"stages-{name}", measure.title, drawing, 0.9 + 0.4 * len(found))


def _boxes(rows: Sequence[Row], name: str) -> Figure | None:
    """The items of each stage and voice: median, quartiles, and 1.5 times their distance at most, the others as dots."""
    values: dict[Group, list[float]] = {}
    for row in rows:
        if (value := value_of(BY_NAME[name], row)) is not None:
            values.setdefault(group_of(row), []).append(value)
    if not values:
        return None

    def drawing(canvas: Canvas) -> None:
        axes = canvas.subplots()
        places = _name_groups(axes, list(values), _AXES[name])
        boxes = axes.boxplot(
            list(values.values()), positions=places, orientation="horizontal", widths=0.5, manage_ticks=False,
            patch_artist=True, flierprops={"markersize": 3}, medianprops={"color": "black", "linewidth": 2},
        )  # fmt: skip
        for box, group in zip(boxes["boxes"], values, strict=True):
            box.set_facecolor(_colour(group, list(values)))

    return draw(f"items-{name}", BY_NAME[name].title, drawing, 0.9 + 0.4 * len(values))


def _histogram(rows: Sequence[Row], name: str) -> Figure | None:
    values = _by_voice([(group_of(row), value) for row in rows if (value := value_of(BY_NAME[name], row)) is not None])
    if not values:
        return None

    def drawing(canvas: Canvas) -> None:
        axes = canvas.subplots()
        axes.hist(
            list(values.values()), bins=16, histtype="step", linewidth=2, color=_cycle(values), label=list(values)
        )
        axes.set_xlabel(_AXES[name])
        axes.set_ylabel("items")
        axes.legend()

    return draw(f"speed-{name}", BY_NAME[name].title, drawing, 2.5)


def _against_length(rows: Sequence[Row]) -> Figure | None:
    found = [(group_of(row), number(row.get("num_words")), value_of(BY_NAME["wer"], row)) for row in rows]
    points = [(group, (words, wer)) for group, words, wer in found if words and wer is not None]
    if len({words for _, (words, _) in points}) < 2:
        return None

    def drawing(canvas: Canvas) -> None:
        axes = canvas.subplots()
        voices = _by_voice(points)
        for colour, (voice, mine) in zip(_cycle(voices), voices.items(), strict=True):
            axes.plot(*np.array(mine).T, "o", alpha=0.5, markersize=4, color=colour, label=voice)
        # As many items in each bin, pooled over voices; the WER of a bin is errors over words, as everywhere.
        words, wer = np.array([point for _, point in points]).T
        bins = np.array_split(np.argsort(words, kind="stable"), min(6, max(2, len(points) // 10)))
        x, y = zip(*((words[b].mean(), (wer * words)[b].sum() / words[b].sum()) for b in bins if len(b)), strict=True)
        axes.plot(x, y, color="black", label="about as many words")
        axes.set_xlabel("words in the text")
        axes.set_ylabel("WER of the item")
        axes.legend()

    return draw("wer-against-length", "WER against length", drawing, 2.7)


def _fault_counts(rows: Sequence[Row]) -> Figure | None:
    counts = Counter(kind for row in rows for kind in faults_of(row))
    if not counts:
        return None

    def drawing(canvas: Canvas) -> None:
        axes = canvas.subplots()
        axes.bar_label(axes.barh(list(counts), list(counts.values()), 0.6, color=COLOURS[0]), padding=3)
        axes.invert_yaxis()
        axes.locator_params("x", integer=True)
        axes.set_xlabel("items; one with two kinds counts in both")

    return draw("faults", "Faults", drawing, 0.9 + 0.3 * len(counts))


def _by_voice(values: Sequence[tuple[Group, Any]]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for (_, voice), value in values:
        found.setdefault(voice, []).append(value)
    return found


def _cycle(voices: Mapping[str, Any]) -> list[str]:
    return [COLOURS[number % len(COLOURS)] for number in range(len(voices))]


def _colour(group: Group, groups: Sequence[Group]) -> str:
    voices = list(dict.fromkeys(voice for _, voice in groups))
    return COLOURS[voices.index(group[1]) % len(COLOURS)]


def _name_groups(axes: Axes, groups: Sequence[Group], label: str) -> list[int]:
    """A line for each stage and voice, the first on top; returns their heights."""
    places = list(range(len(groups)))
    names = [f"{stage.replace(' re-synthesis', '')}, {voice}" for stage, voice in groups]
    axes.set_yticks(places, [name if len(name) <= 32 else f"{name[:31]}…" for name in names])  # the axis needs room too
    axes.set_ylim(len(groups) - 0.3, -0.7)
    axes.set_xlabel(label)
    axes.margins(x=0.1)
    axes.grid(axis="x")
    return places


def spectrogram(samples: np.ndarray, sample_rate: int, span_sec: float) -> dict[str, Any]:
    """A log-mel spectrogram of samples [T] for the page's template; span_sec: where its time axis ends.

    The picture is a PNG, 10 ms by 1/80 of the mel scale per point, black 75 dB below white; times are (x, text) and tones
    (y, text), places in units of its viewBox.
    """
    import torch

    log_mel = _log_mel(sample_rate)
    config = log_mel.config
    padded = np.pad(np.asarray(samples, np.float32), (0, max(config.hop - len(samples), 0)))
    levels = log_mel(torch.from_numpy(padded)).numpy()[::-1] * 20 / math.log(10)  # dB, high bands on top
    left, top, width, height = 44, 4, 420, 120
    step = next((s for s in (0.1, 0.2, 0.5, 1, 2, 5) if span_sec / s <= 10), 10)
    times = np.arange(0, span_sec - 0.3 * step, step)
    tones = []
    for hz in (hz for hz in (500, 1000, 2000, 4000, 8000) if hz < sample_rate / 2):
        band = float(log_mel.filters[:, round(hz * config.num_fft / sample_rate)].argmax()) + 0.5
        unit = "" if hz < 1000 else " kHz"
        tones.append((round(top + height * (1 - band / config.num_mels) + 4, 1), f"{hz / 1000:g}{unit}"))
    return {
        "left": left, "top": top, "height": height, "png": _png(levels),
        "wide": round(width * min(len(padded) / sample_rate / span_sec, 1.0), 1),
        "times": [(round(left + width * t / span_sec, 1), f"{t:g}{' s' if t == times[-1] else ''}") for t in times],
        "tones": tones,
    }  # fmt: skip


@cache
def _log_mel(sample_rate: int) -> LogMel:
    from voicegraft.audio.mel import LogMel, MelConfig

    return LogMel(MelConfig(sample_rate, hop=sample_rate // 100, high_hz=sample_rate / 2))


def _png(levels: np.ndarray) -> bytes:
    """Levels [bands, frames] in dB as a picture; 64 colours keep it small."""
    from matplotlib import colormaps
    from PIL import Image

    top = max(float(np.quantile(levels, 0.998)), -40.0)  # silence stays black
    shades = np.clip((levels - top + 75) / 75 * 63, 0, 63).astype(np.uint8)
    picture = Image.fromarray(shades)
    picture.putpalette((colormaps["magma"](np.linspace(0, 1, 64))[:, :3] * 255).astype(np.uint8).tobytes())
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()
