"""How well a pack speaks, beside the recordings and the two re-syntheses that show which stage costs what.

    voicegraft evaluate speech --prompts FILE --pack DIR --recordings FOLDER --out OUT
    voicegraft evaluate speech --audio NAME=FOLDER --recordings FOLDER --out OUT

Writes OUT/report.html, OUT/report.json and OUT/report.md. An interrupted run goes on where it stopped (OUT/rows.jsonl).
Without --prompts or --test-set nothing is read out; without --recordings there is nothing to compare with. With --audio,
what another system made is judged alike, and no pack is loaded unless --pack names one.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voicegraft.core.command_line import read_options
from voicegraft.core.errors import VoicegraftError
from voicegraft.evaluation.judges.base import Judges
from voicegraft.evaluation.judges.load import load_judges
from voicegraft.evaluation.reports.document import need_matplotlib
from voicegraft.evaluation.reports.speech_page import write_page
from voicegraft.evaluation.reports.summary import write_report
from voicegraft.evaluation.speech import audio_folder
from voicegraft.evaluation.speech.audio_folder import SpokenFile
from voicegraft.evaluation.speech.clips import ClipFolder
from voicegraft.evaluation.speech.items import STAGES, Clip, Item, mean_voices, open_rows, run_items
from voicegraft.evaluation.speech.recordings import HeldBack, find_recordings
from voicegraft.evaluation.speech.test_sets import Prompt, TestSet, read_prompts, read_test_set

if TYPE_CHECKING:
    from voicegraft.inference.speaker import Speaker

RECORDINGS, SEMANTIC, CODEC, SPEECH = STAGES
_RATE = 24_000  # Hz at which files are read when there is no pack to ask for its rate


@dataclass(frozen=True)
class EvaluateSpeechConfig:
    out: Path  # folder for the report, and under OUT/audio the clips that its page plays
    prompts: Path | None = None  # what to say: UTF-8, one prompt per line
    pack: Path | None = None  # voice pack; none: the pocket pack
    test_set: str | None = None  # a public test set instead of prompts: seed-tts-eval or librispeech-pc
    test_set_dir: Path | None = None  # your copy of that test set
    recordings: tuple[Path, ...] = ()  # folders with manifest.jsonl
    # Audio of any system with its texts: NAME=FOLDER; NAME is its voice, the recorded speaker's where it is one.
    audio: tuple[tuple[str, Path], ...] = ()
    voices: tuple[str, ...] = ()  # none: all
    # "recordings", "semantic re-synthesis", "codec re-synthesis", "speech"; none: all that prompts and recordings allow
    stages: tuple[str, ...] = ()
    limit: int | None = None  # prompts per voice and recordings per voice
    seed: int = 0  # of what is spoken
    keep_audio: bool = False  # every clip, not only the page's
    # whisper, pocketsphinx, both, or whisper:MODEL; none: both where Whisper is there, else pocketsphinx
    recognizer: str = ""
    mos: str = "dnsmos"  # or utmos:FILE
    speaker_judge: str = "resemblyzer"  # or wavlm-sv:MODEL
    fault_judge: str = "pocketsphinx"  # or none


def main(argv: list[str] | None = None) -> None:
    config = read_options(EvaluateSpeechConfig, argv, __doc__, "voicegraft evaluate speech", names={"voices": "voice"})
    evaluate_speech(config)
    print((config.out / "report.md").read_text(encoding="utf-8"))


def evaluate_speech(
    config: EvaluateSpeechConfig,
    speaker: Speaker | None = None,
    judges: Judges | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Judges the stages of `config`, writes the report and returns it.

    speaker: None loads config.pack, unless only recordings are judged. judges: None loads the real ones.
    Raises VoicegraftError for inputs that are missing or do not fit together, and for missing packages.
    """
    need_matplotlib()
    with_pack = speaker is not None or config.pack is not None or not config.audio
    stages = _choose_stages(config, with_pack)
    test_set, prompts = _read_texts(config) if SPEECH in stages else (None, [])
    if speaker is None and with_pack and set(stages) != {RECORDINGS}:
        from voicegraft.inference.speaker import Speaker

        speaker = Speaker.load(config.pack)
    known = speaker.voices if speaker else []
    humans = find_recordings(config.recordings, known)
    voices = _choose_voices(config.voices, known or list(humans))
    others = _read_audio_folders(config, prompts, [*known, *humans]) if SPEECH in stages else {}
    if taken := [name for name in others if speaker and prompts and name in voices]:
        raise VoicegraftError(
            f"the pack has a voice {taken[0]!r} too; evaluate --audio {taken[0]}=... without --pack into a folder of its own, "
            "then set the two beside each other by voicegraft evaluate compare"
        )
    judges = judges or load_judges(config.recognizer, config.mos, config.speaker_judge, config.fault_judge)
    if test_set:
        judges = replace(judges, normalize=test_set.normalize, names={**judges.names, "texts": test_set.name})
    facts = {
        "fingerprint": speaker.fingerprint if speaker else None,
        "seed": config.seed,
        "judges": dict(judges.names),
    }
    identity = {  # what rows depend on besides their key; rows of another identity must not be mixed in
        **facts,
        "prompts": _digest(prompt.text for prompt in prompts),
        "recordings": {voice: _digest(clip.id for clip in human.clips) for voice, human in humans.items()},
        "audio": {name: audio_folder.digest(files) for name, (_, files) in others.items()},
    }
    ledger = open_rows(config.out / "rows.jsonl", identity)

    rate = speaker.sample_rate if speaker else _RATE
    items: list[Item] = []
    for voice in voices:
        if voice in humans:
            items += _recorded_items(stages, speaker, voice, humans[voice], config.limit, rate)
        if speaker:
            say = partial(_say, speaker, voice, config.seed)
            items += [Item(SPEECH, voice, one.id, one.text, partial(say, one.text)) for one in prompts[: config.limit]]
    for name, (folder, files) in others.items():
        items += audio_folder.items_of(SPEECH, name, folder, files[: config.limit], rate)
    means = mean_voices(
        {voice: map(partial(human.read, sample_rate=rate), human.clips) for voice, human in humans.items()},
        judges.speaker,
    )
    missing = [
        item for item in items if item.stage == SPEECH and item.voice not in others and item.key not in ledger.rows
    ]
    if speaker and missing:
        # What only the first call of a process costs is not measured.
        speaker.say(missing[0].text, voice=missing[0].voice, seed=config.seed)
    clips = ClipFolder(config.out / "audio", rate)
    rows = run_items(items, judges, means, ledger, clips.save, progress)
    about = {
        "pack": (config.pack.name if config.pack else "pocket") if speaker else None,
        **facts,
        "prompts": config.prompts.name if config.prompts else None,
        "audio": {name: len(files) for name, (_, files) in others.items()} or None,
        "limit": config.limit,
        "voices": [*voices, *(name for name in others if name not in voices)],
        "recordings held back": {voice: len(human.clips) for voice, human in humans.items()},
        "date": time.strftime("%Y-%m-%d"),
        "protocol": _published(test_set, judges) if test_set else None,
    }
    report = write_report(config.out, rows, about)
    shown = write_page(config.out, report, partial(_find_clip, clips, humans, rate))
    if not config.keep_audio:
        clips.drop_new(shown)
    return report


def _read_texts(config: EvaluateSpeechConfig) -> tuple[TestSet | None, list[Prompt]]:
    if config.test_set:
        return read_test_set(config.test_set, config.test_set_dir)
    lines = read_prompts(config.prompts) if config.prompts else []
    return None, [Prompt(f"{number:04d}", text) for number, text in enumerate(lines, start=1)]


def _read_audio_folders(
    config: EvaluateSpeechConfig, prompts: Sequence[Prompt], voices: Sequence[str]
) -> dict[str, tuple[Path, list[SpokenFile]]]:
    """Voice -> folder and its files; a recorded speaker's name counts in upper or lower case."""
    spelling = {voice.casefold(): voice for voice in voices}
    return {
        spelling.get(name.casefold(), name): (folder, audio_folder.read_folder(folder, prompts))
        for name, folder in config.audio
    }


def _published(test_set: TestSet, judges: Judges) -> dict[str, str]:
    return {
        "name": test_set.name,
        "note": f"Published numbers are word error rates by {test_set.recognizer}, as the mean over clips, and similarities by"
        f" {test_set.speaker_judge}; here listened {judges.names.get('recognizer', 'another recogniser')} and"
        f" {judges.names.get('speaker', 'another judge')}, so compare with what was measured by the same only. The similarity"
        " to the prompt's voice is measured of --audio, for systems that clone voices; a pack speaks in its own.",
    }


def _choose_stages(config: EvaluateSpeechConfig, with_pack: bool) -> tuple[str, ...]:
    if config.prompts and config.test_set:
        raise VoicegraftError("both --prompts and --test-set say what to read out; give one of them")
    possible: tuple[str, ...] = ()
    if config.recordings:
        possible = (RECORDINGS, SEMANTIC, CODEC) if with_pack else (RECORDINGS,)
    possible += (SPEECH,) if config.prompts or config.test_set or config.audio else ()
    if not possible:
        raise VoicegraftError(
            "nothing to evaluate; give --prompts FILE, --test-set NAME, --audio NAME=FOLDER or --recordings FOLDER"
        )
    for stage in config.stages:
        if stage not in STAGES:
            raise VoicegraftError(f"there is no stage {stage!r}; choose among {', '.join(STAGES)}")
        if stage not in possible:
            missing = "--prompts FILE, --test-set NAME or --audio NAME=FOLDER"
            if stage != SPEECH:
                missing = "--pack DIR" if config.recordings else "--recordings FOLDER"
            raise VoicegraftError(f"the stage {stage!r} needs {missing}")
    return config.stages or possible


def _choose_voices(asked: Sequence[str], known: Sequence[str]) -> list[str]:
    for voice in asked:
        if voice not in known:
            raise VoicegraftError(f"there is no voice {voice!r}; choose among {', '.join(known)}")
    return list(asked or known)


def _recorded_items(
    stages: Sequence[str], speaker: Speaker | None, voice: str, human: HeldBack, limit: int | None, rate: int
) -> Iterator[Item]:
    makers: dict[str, Callable[[np.ndarray], np.ndarray]] = {}
    if speaker:
        makers = {SEMANTIC: partial(speaker.resynthesize_semantic, voice=voice), CODEC: speaker.resynthesize_codec}
    for stage in stages:
        for clip in human.clips[:limit] if stage != SPEECH else ():
            read = partial(human.read, clip, rate)
            produce = partial(_remake, makers[stage], read) if stage in makers else read
            yield Item(stage, voice, clip.id, clip.text, produce)


def _remake(make: Callable[[np.ndarray], np.ndarray], read: Callable[[], Clip]) -> Clip:
    original = read()
    start = time.perf_counter()
    samples = make(original.samples)
    return Clip(samples, original.sample_rate, wall_sec=time.perf_counter() - start)


def _say(speaker: Speaker, voice: str, seed: int, text: str) -> Clip:
    return Clip.of(speaker.say(text, voice=voice, seed=seed))


def _find_clip(clips: ClipFolder, humans: Mapping[str, HeldBack], rate: int, row: Mapping[str, Any]) -> Clip | None:
    """The sound of a row: a clip that was kept, or the recording."""
    if row["stage"] != RECORDINGS:
        return clips.read(row)
    human = humans[row["voice"]]
    return next((human.read(clip, rate) for clip in human.clips if clip.id == row["id"]), None)


def _digest(names: Iterable[str]) -> str:
    return hashlib.sha256(json.dumps(list(names)).encode()).hexdigest()[:16]


if __name__ == "__main__":
    main()
