"""What an LLM makes of speech, beside what it makes of the true words, of a recogniser's, of nothing and of wrong ones.

    voicegraft evaluate listening --listening PACK --speech corpora/kathleen --test-speech LibriSpeech/test-other --out OUT

Word error rates, right answers to spoken questions, and how far the answers' distribution is from that to the true text, on
tasks and wordings of training and on others (docs/hearing.md). Without --listening only the floors, the ceiling and the cascade
are measured. Writes OUT/report.md, report.json and report.html. An interrupted run goes on where it stopped (OUT/rows.jsonl,
OUT/heard.jsonl), and with a larger --limit only what is missing is made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn
from tqdm import tqdm

from voicegraft.core.artifacts import file_digest, fingerprint
from voicegraft.core.command_line import read_options
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.ledger import Ledger, Row
from voicegraft.core.messages import Message, Waveform
from voicegraft.core.runtime import pick_device, single_thread
from voicegraft.data.chat import chat_prompt
from voicegraft.data.listening_tasks import load_tasks, prompt_of
from voicegraft.data.splits import text_key
from voicegraft.evaluation.judges.base import Recognizer
from voicegraft.evaluation.judges.load import load_recognizer
from voicegraft.evaluation.listening.answering import (
    BESIDE,
    CASCADE,
    HEARD,
    NOTHING,
    PURE,
    READ,
    TEXT,
    LmAnswering,
    Places,
)
from voicegraft.evaluation.listening.behaviour import KEYS, cases, measure
from voicegraft.evaluation.listening.clips import Spoken, read_clips, unspoken
from voicegraft.evaluation.listening.conversations import hold, write_conversations
from voicegraft.evaluation.listening.items import questions, sentences, spoken
from voicegraft.evaluation.listening.recognition import (
    CONNECTOR,
    LISTEN,
    WHISPER,
    Reader,
    all_heard,
    connector_reader,
    heard,
)
from voicegraft.evaluation.listening.report import document, summarize
from voicegraft.evaluation.metrics.rates import normalize_transcript
from voicegraft.evaluation.reports.document import write_document
from voicegraft.evaluation.reports.summary import environment
from voicegraft.evaluation.tasks.base import Subject
from voicegraft.evaluation.tasks.forgetting import logit_difference
from voicegraft.fusion.backbone import backbone_fingerprint, load_backbone
from voicegraft.fusion.experts import ADAPTER_WEIGHTS, LISTENING
from voicegraft.fusion.listening import ListeningHeader
from voicegraft.fusion.soft_transcript import SOFT
from voicegraft.fusion.text_lm import TextLM
from voicegraft.inference.arriving import Arriving
from voicegraft.inference.listener import Listener
from voicegraft.inference.writer import Writer, WritingOptions

_PACKAGES = ("torch", "transformers", "numpy", "scipy", "faster-whisper", "ctranslate2", "jiwer")
_BACKBONE = "part:smollm2"  # where no listening pack names another
_TIMED = "What is this text about? Answer in a few words.\n{audio}"
_CHUNK_SEC = 0.25  # of sound that arrives


@dataclass(frozen=True)
class EvaluateListeningConfig:
    out: Path  # folder for the report
    listening: Path | None = None  # listening pack, or soft: a soft transcript; none: floors, ceiling and cascade alone
    backbone: str = ""  # the text LLM: a folder, part:NAME or a name on the Hub; none: the pack's, or part:smollm2
    encoder: str | None = None  # the speech encoder, if not the one that the pack names
    speech: tuple[Path, ...] = ()  # corpora of any layout, of which those clips count that training holds back
    test_speech: tuple[Path, ...] = ()  # corpora of any layout that nothing is trained on: all their clips count
    limit: int | None = None  # clips of each corpus
    tasks_file: Path | None = None  # YAML of tasks and wordings; none: the packaged one
    tasks: tuple[str, ...] = ()  # none: those that a small LLM can do
    max_tokens: int = 16  # of an answer
    batch: int = 16  # answers that are written together
    recognizer: str = "whisper"  # whose transcript the cascade reads: whisper or whisper:MODEL
    unspoken: int = 50  # clips of silence and noise
    timed: int = 20  # clips whose first token is timed
    device: str = "auto"


def main(argv: list[str] | None = None) -> None:
    config = read_options(EvaluateListeningConfig, argv, __doc__, "voicegraft evaluate listening")
    evaluate_listening(config)
    print((config.out / "report.md").read_text(encoding="utf-8"))


def evaluate_listening(
    config: EvaluateListeningConfig,
    lm: TextLM | None = None,
    recognizer: Recognizer | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Measures what ``config`` names, writes the report and returns it.

    Args:
        lm: in place of the one that ``config`` names. recognizer: the same.

    Raises:
        VoicegraftError: inputs that are missing or do not fit together, and missing packages.
    """
    device = pick_device(config.device)
    if device.type == "cpu":
        single_thread()
    clips, silent = _clips(config), unspoken(config.unspoken)
    normalize: Callable[[str], str] = normalize_transcript
    real = recognizer is None
    if recognizer is None:
        recognizer, own = load_recognizer(config.recognizer)
        normalize = own or normalize_transcript
    tasks = load_tasks(config.tasks_file, config.tasks)
    if not config.tasks:
        tasks = {name: task for name, task in tasks.items() if task.small}
    lm = (lm or _load(config)).to(device)
    facts = {
        "backbone": backbone_fingerprint(lm.backbone),
        "recognizer": recognizer.name,
        "max tokens": config.max_tokens,
    }
    ledger = Ledger(config.out / "rows.jsonl", facts, KEYS)
    whisper: Reader = partial(_transcribe, recognizer)

    def transcript(clip: Spoken) -> str:
        return str(heard(WHISPER, whisper, clip, ledger, normalize)["heard"])

    bar = partial(tqdm, unit="clip", disable=not progress, mininterval=5)
    shown = partial(bar, desc="answers", unit="batch")
    alone = spoken().keys() - questions().keys() - sentences().keys()  # "And of Poland?" is no text for a task
    asked = list(cases([c for c in clips if text_key(c.text) not in alone], tasks, questions(), sentences()))
    answering, places = LmAnswering(lm), Places(transcript, _others(clips))
    words: list[Row] = []
    made_up: list[Row] = []

    def hear(name: str, reader: Reader, into: Ledger) -> None:
        for rows, of in ((words, clips), (made_up, silent)):
            rows += all_heard(name, reader, bar(of, desc=name), into, normalize)

    hear(WHISPER, whisper, ledger)
    rows = measure(asked, READ, places, answering, ledger, ledger, config.max_tokens, normalize, config.batch, shown)
    turns = hold((TEXT, CASCADE, NOTHING), clips, places, answering, ledger, config.batch)
    found: dict[str, Any] = {}
    own_rows = ledger
    if lm.hearing is not None:
        adapter = config.listening / LISTENING / ADAPTER_WEIGHTS if config.listening else None
        facts |= {
            "connector": fingerprint(lm.hearing.connector.state_dict()),
            "expert": file_digest(adapter)[:16] if adapter and adapter.is_file() else None,
            "encoder": lm.hearing.ears.fingerprint,
        }
        own_rows = Ledger(config.out / "heard.jsonl", facts, KEYS)
        if reader := connector_reader(lm):
            hear(CONNECTOR, reader, own_rows)
        more = measure(
            asked, HEARD, places, answering, own_rows, ledger, config.max_tokens, normalize, config.batch, shown
        )
        rows += more[len(asked) :]
        turns += hold((PURE, BESIDE), clips, places, answering, own_rows, config.batch)
        found["forgetting"] = _forgetting(config, lm)
    if real:
        verb = Listener.load(config.listening, backbone=_backbone(config), num_threads=1, writer=Writer(lm, 1))
        hear(LISTEN, lambda waveform: "".join(verb.listen(waveform)), own_rows)
    timed = [_wait(answering, name, clip, whisper) for clip in bar(clips[: config.timed]) for name in _timed(lm)]
    found["about"] = {
        **facts,
        "pack": config.listening.name if config.listening else None,
        "clips": {name: sum(c.corpus == name for c in clips) for name in dict.fromkeys(c.corpus for c in clips)},
        "tasks": list(tasks),
        "date": time.strftime("%Y-%m-%d"),
        **environment(_PACKAGES),
    }
    found["unsaid"] = write_conversations(config.out, clips, turns)
    found |= summarize(rows, words, made_up, timed, turns)
    write_document(config.out, "report", document(found), found)
    return found


def _load(config: EvaluateListeningConfig) -> TextLM:
    return TextLM.load(_backbone(config), listening=config.listening, encoder=config.encoder)


def _backbone(config: EvaluateListeningConfig) -> str:
    """A folder or a name."""
    named = _BACKBONE
    if config.listening and str(config.listening) != SOFT:
        named = ListeningHeader.read(config.listening).backbone
    if not (config.backbone or named):
        raise VoicegraftError(f"{config.listening} does not name its backbone: give --backbone")
    return config.backbone or named


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


def _transcribe(recognizer: Recognizer, waveform: Waveform) -> str:
    return recognizer.transcribe(waveform.samples, waveform.sample_rate)


def _timed(lm: TextLM) -> Sequence[str]:
    return (TEXT, CASCADE) if lm.hearing is None else (TEXT, CASCADE, PURE)


def _wait(model: LmAnswering, name: str, clip: Spoken, whisper: Reader) -> dict[str, Any]:
    """How long the first token takes from the end of the sound: what can be done before has been done."""
    if name == PURE:
        arriving = Arriving(Listener("pure", lambda: Writer(model.lm)), _TIMED, clip.waveform.sample_rate)
        size = round(_CHUNK_SEC * clip.waveform.sample_rate)
        for begin in range(0, len(clip.waveform.samples), size):
            arriving.push(clip.waveform.samples[begin : begin + size])
    start = time.perf_counter()
    if name == PURE:
        list(arriving.finish(WritingOptions(max_tokens=1)))
    else:
        model.write([prompt_of(_TIMED, clip.text if name == TEXT else whisper(clip.waveform))], 1)
    return {"who": name, "wall_sec": time.perf_counter() - start}


def _forgetting(config: EvaluateListeningConfig, lm: TextLM) -> dict[str, Any]:
    """Largest difference of a text logit from those of the backbone loaded for itself, the listening expert installed."""
    before, _ = load_backbone(_backbone(config))
    nn.Module.to(before, lm.backbone.device)
    texts = [chat_prompt(lm.tokenizer, [Message.user(item.text)]) for item in questions().values()]
    after = Subject(lm.backbone, lm.tokenizer, lambda: lm.mole.gated(lm.writing()))
    largest = logit_difference(before, after, texts)
    return {"largest difference of a text logit": f"{largest:.3g}", "texts": len(texts)}


if __name__ == "__main__":
    main()
