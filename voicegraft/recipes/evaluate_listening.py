"""What an LLM makes of speech, beside what it makes of the true words, of a recogniser's, of nothing and of wrong ones.

    voicegraft evaluate listening --speech corpora/kathleen --test-speech LibriSpeech/test-other --out OUT

Word error rates, right answers to spoken questions, and how far the answers' distribution is from that to the true text, on
tasks and wordings of training and on others (docs/hearing.md). Without a model that hears, only the floors, the ceiling and the
cascade are measured. Writes OUT/report.md, report.json and report.html. An interrupted run goes on where it stopped
(OUT/rows.jsonl), and with a larger --limit only what is missing is made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from voicegraft.core.command_line import read_options
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.ledger import Ledger
from voicegraft.core.runtime import pick_device, single_thread
from voicegraft.data.listening_tasks import load_tasks, prompt_of
from voicegraft.data.splits import text_key
from voicegraft.evaluation.judges.base import Recognizer
from voicegraft.evaluation.judges.load import load_recognizer
from voicegraft.evaluation.listening.answering import (
    CASCADE,
    NOTHING,
    TEXT,
    WRONG_TEXT,
    Answering,
    Places,
    TextAnswering,
)
from voicegraft.evaluation.listening.behaviour import KEYS, Case, cases, measure
from voicegraft.evaluation.listening.clips import Spoken, read_clips, unspoken
from voicegraft.evaluation.listening.items import questions, sentences
from voicegraft.evaluation.listening.recognition import WHISPER, all_heard, heard
from voicegraft.evaluation.listening.report import document, summarize
from voicegraft.evaluation.metrics.rates import normalize_transcript
from voicegraft.evaluation.reports.document import write_document
from voicegraft.evaluation.reports.summary import environment
from voicegraft.fusion.backbone import backbone_fingerprint, load_backbone

_PACKAGES = ("torch", "transformers", "numpy", "scipy", "faster-whisper", "ctranslate2", "jiwer")
_WAITED_WORDING = "What is this text about? Answer in a few words.\n{audio}"


@dataclass(frozen=True)
class EvaluateListeningConfig:
    out: Path  # folder for the report
    backbone: str = "part:smollm2"  # the text LLM: a folder, part:NAME or a name on the Hub
    speech: tuple[Path, ...] = ()  # corpora of any layout, of which those clips count that training holds back
    test_speech: tuple[Path, ...] = ()  # corpora of any layout that nothing is trained on: all their clips count
    limit: int | None = None  # clips of each corpus
    tasks_file: Path | None = None  # YAML of tasks and wordings; none: the packaged one
    tasks: tuple[str, ...] = ()  # none: those that a small LLM can do
    max_tokens: int = 16  # of an answer
    recognizer: str = "whisper"  # whose transcript the cascade reads: whisper or whisper:MODEL
    unspoken: int = 50  # clips of silence and noise
    waits: int = 20  # clips whose first token is timed
    device: str = "auto"


def main(argv: list[str] | None = None) -> None:
    config = read_options(EvaluateListeningConfig, argv, __doc__, "voicegraft evaluate listening")
    evaluate_listening(config)
    print((config.out / "report.md").read_text(encoding="utf-8"))


def evaluate_listening(
    config: EvaluateListeningConfig,
    backbone: tuple[PreTrainedModel, PreTrainedTokenizerBase] | None = None,
    recognizer: Recognizer | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Measures what ``config`` names, writes the report and returns it.

    Args:
        backbone: in place of the one that ``config`` names. recognizer: the same.

    Raises:
        VoicegraftError: inputs that are missing or do not fit together, and missing packages.
    """
    device = pick_device(config.device)
    if device.type == "cpu":
        single_thread()
    clips = _clips(config)
    normalize: Callable[[str], str] = normalize_transcript
    if recognizer is None:
        recognizer, own = load_recognizer(config.recognizer)
        normalize = own or normalize_transcript
    tasks = load_tasks(config.tasks_file, config.tasks)
    if not config.tasks:
        tasks = {name: task for name, task in tasks.items() if task.small}
    model, tokenizer = backbone or load_backbone(config.backbone)
    torch.nn.Module.to(model, device)
    facts = {"backbone": backbone_fingerprint(model), "recognizer": recognizer.name, "max tokens": config.max_tokens}
    ledger = Ledger(config.out / "rows.jsonl", facts, KEYS)
    reader = partial(_transcribe, recognizer)
    answering = TextAnswering(model, tokenizer)

    def transcript(clip: Spoken) -> str:
        return str(heard(WHISPER, reader, clip, ledger, normalize)["heard"])

    bar = partial(tqdm, unit="clip", disable=not progress, mininterval=5)
    readers = {WHISPER: reader}
    words = all_heard(readers, bar(clips, desc="words"), ledger, normalize)
    silent = all_heard(readers, bar(unspoken(config.unspoken), desc="silence"), ledger, normalize)
    places = Places(transcript, _others(clips))
    asked = list(cases(clips, tasks, questions(), sentences()))
    names = (CASCADE, NOTHING, WRONG_TEXT)

    def shown(todo: Sequence[Case]) -> Sequence[Case]:
        return bar(todo, desc="answers", unit="answer")  # type: ignore[return-value]

    rows = measure(asked, names, places, answering, ledger, config.max_tokens, normalize, shown)
    timed = Places(lambda clip: reader(clip.waveform), places.others)
    waited = [
        {"who": name, "wall_sec": _wait(answering, timed, name, clip)}
        for clip in bar(clips[: config.waits], desc="first token")
        for name in (TEXT, CASCADE)
    ]
    corpora = {
        name: sum(clip.corpus == name for clip in clips) for name in dict.fromkeys(clip.corpus for clip in clips)
    }
    about = {
        **facts,
        "clips": corpora,
        "tasks": list(tasks),
        "date": time.strftime("%Y-%m-%d"),
        **environment(_PACKAGES),
    }
    found = summarize(rows, words, silent, waited) | {"about": about}
    write_document(config.out, "report", document(found), found)
    return found


def _clips(config: EvaluateListeningConfig) -> list[Spoken]:
    corpora = [(path, False) for path in config.speech] + [(path, True) for path in config.test_speech]
    if not corpora:
        raise VoicegraftError("nothing to listen to; give --speech FOLDER or --test-speech FOLDER")
    clips = [clip for path, whole in corpora for clip in read_clips(path, whole, config.limit)]
    if len({text_key(clip.text) for clip in clips}) < 2:
        raise VoicegraftError("expected clips of at least two different texts: one is the wrong text of another")
    return clips


def _others(clips: Sequence[Spoken]) -> dict[tuple[str, str], Spoken]:
    """For each clip the next one that says something else, round the end."""
    found = {}
    for number, clip in enumerate(clips):
        rest = (*clips[number + 1 :], *clips[:number])
        found[clip.corpus, clip.id] = next(one for one in rest if text_key(one.text) != text_key(clip.text))
    return found


def _transcribe(recognizer: Recognizer, waveform: Any) -> str:
    return recognizer.transcribe(waveform.samples, waveform.sample_rate)


def _wait(model: Answering, places: Places, name: str, clip: Spoken) -> float:
    start = time.perf_counter()
    model.write(prompt_of(_WAITED_WORDING, *places.of(name)(clip)), 1)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
