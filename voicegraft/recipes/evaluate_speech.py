"""How well a pack speaks, beside the recordings and the two re-syntheses that show which stage costs what.

    python -m voicegraft.recipes.evaluate_speech --prompts FILE --pack DIR --recordings FOLDER --out OUT

Writes OUT/report.json and OUT/report.md. An interrupted run goes on where it stopped (OUT/rows.jsonl).
Without --prompts nothing is read out; without --recordings there is nothing to compare with.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from voicegraft.audio.io import read_audio, write_audio
from voicegraft.audio.level import normalise_level, trim_silence
from voicegraft.core.errors import VoicegraftError
from voicegraft.data import manifest
from voicegraft.data.manifest import Utterance, read_manifest
from voicegraft.evaluation.judges import Judges, load_judges
from voicegraft.evaluation.metrics import normalize_transcript
from voicegraft.evaluation.report import write_report
from voicegraft.evaluation.speech import STAGES, Clip, Item, RowLog, SpeakerUnderTest, mean_voices, run_items

RECORDINGS, SEMANTIC, CODEC, SPEECH = STAGES
_RECORDING_RATE = 24_000  # Hz at which recordings are judged when there is no pack to ask for its rate


@dataclass(frozen=True)
class EvaluateSpeechConfig:
    out: Path  # folder for the report and, with keep_audio, the clips
    prompts: Path | None = None  # one prompt per line, UTF-8
    pack: Path | None = None  # None: the pocket pack
    recordings: tuple[Path, ...] = ()  # folders with manifest.jsonl
    voices: tuple[str, ...] = ()  # none: all
    stages: tuple[str, ...] = ()  # of STAGES; none: all that prompts and recordings allow
    limit: int | None = None  # prompts per voice and recordings per voice
    seed: int = 0
    keep_audio: bool = False


@dataclass(frozen=True)
class HeldBack:
    """A speaker's recordings that no training recipe sees."""

    folder: Path
    clips: tuple[Utterance, ...]

    def read(self, clip: Utterance, sample_rate: int) -> Clip:
        """The recording as training recipes see theirs: silence trimmed, level normalised."""
        samples = read_audio(self.folder / clip.audio, sample_rate).samples
        return Clip(normalise_level(trim_silence(samples, sample_rate), sample_rate), sample_rate)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="voicegraft evaluate speech",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--prompts", type=Path, metavar="FILE", help="what to say, one per line")
    parser.add_argument("--pack", type=Path, metavar="DIR", help="voice pack (default: the pocket pack)")
    parser.add_argument("--recordings", type=Path, metavar="FOLDER", nargs="+", action="extend", default=[])
    parser.add_argument("--voice", metavar="V", nargs="+", action="extend", default=[], help="(default: all)")
    parser.add_argument(
        "--stages", nargs="+", choices=STAGES, default=[], metavar="STAGE", help="of: " + ", ".join(STAGES)
    )
    parser.add_argument("--limit", type=int, metavar="N", help="at most N prompts and N recordings per voice")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep-audio", action="store_true", help="save every clip that was made under OUT/audio")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the report")
    given = parser.parse_args(argv)
    config = EvaluateSpeechConfig(
        out=given.out,
        prompts=given.prompts,
        pack=given.pack,
        recordings=tuple(given.recordings),
        voices=tuple(given.voice),
        stages=tuple(given.stages),
        limit=given.limit,
        seed=given.seed,
        keep_audio=given.keep_audio,
    )
    evaluate_speech(config)
    print((config.out / "report.md").read_text(encoding="utf-8"))


def evaluate_speech(
    config: EvaluateSpeechConfig,
    speaker: SpeakerUnderTest | None = None,
    judges: Judges | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Judges the stages of `config`, writes the report and returns it.

    speaker: None loads config.pack, unless only recordings are judged. judges: None loads the real ones.
    Raises VoicegraftError for inputs that are missing or do not fit together, and for missing packages.
    """
    stages = _choose_stages(config)
    prompts = read_prompts(config.prompts) if config.prompts and SPEECH in stages else []
    if speaker is None and set(stages) != {RECORDINGS}:
        from voicegraft.inference.speaker import Speaker

        speaker = cast(SpeakerUnderTest, Speaker.load(config.pack))
    known = speaker.voices if speaker else []
    humans = find_recordings(config.recordings, known)
    voices = _choose_voices(config.voices, known or list(humans))
    log = RowLog(config.out / "rows.jsonl", _identity(config, speaker, prompts, humans))
    judges = judges or load_judges()

    items: list[Item] = []
    for voice in voices:
        if voice in humans:
            items += _recorded_items(stages, speaker, voice, humans[voice], config.limit)
        if speaker and prompts:
            items += _prompt_items(speaker, voice, prompts[: config.limit], config.seed)
    rate = speaker.sample_rate if speaker else _RECORDING_RATE
    means = mean_voices(
        {voice: map(partial(human.read, sample_rate=rate), human.clips) for voice, human in humans.items()},
        judges.speaker,
    )
    if speaker and prompts and any(item.stage == SPEECH and item.key not in log.rows for item in items):
        # What only the first call of a process costs is not measured.
        speaker.say(prompts[0], voice=voices[0], seed=config.seed)
    keep = partial(_save_clip, config.out / "audio") if config.keep_audio else None
    rows = run_items(items, judges, means, log, keep, progress)
    return write_report(config.out, rows, _about(config, speaker, voices, humans))


def held_back(folder: Path, speaker: str) -> list[Utterance]:
    """The speaker's clips that no training recipe sees and that have words in their text; maybe none.

    `voicegraft.data.manifest.held_back` decides for the whole folder: splits val and test, else the last 20.
    """
    clips = manifest.held_back(read_manifest(folder))[1]
    return [clip for clip in clips if clip.speaker == speaker and normalize_transcript(clip.text)]


def read_prompts(path: Path) -> list[str]:
    """Prompts of a UTF-8 file, one per line; empty lines are skipped.

    Raises VoicegraftError if the file cannot be read, holds no prompt, or a prompt has no word.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise VoicegraftError(f"cannot read prompts from {path}: {error}; expected UTF-8, one per line") from error
    prompts = [line.strip() for line in lines if line.strip()]
    for prompt in prompts:
        if not normalize_transcript(prompt):
            raise VoicegraftError(f"{path} holds the prompt {prompt!r}, in which there is no word; remove it")
    if not prompts:
        raise VoicegraftError(f"{path} holds no prompt; expected one per line")
    return prompts


def _choose_stages(config: EvaluateSpeechConfig) -> tuple[str, ...]:
    possible: tuple[str, ...] = (RECORDINGS, SEMANTIC, CODEC) if config.recordings else ()
    possible += (SPEECH,) if config.prompts else ()
    if not possible:
        raise VoicegraftError("nothing to evaluate; give --prompts FILE, --recordings FOLDER or both")
    for stage in config.stages:
        if stage not in possible:
            missing = "--prompts FILE" if stage == SPEECH else "--recordings FOLDER"
            raise VoicegraftError(f"the stage {stage!r} needs {missing}")
    return config.stages or possible


def _choose_voices(asked: Sequence[str], known: Sequence[str]) -> list[str]:
    for voice in asked:
        if voice not in known:
            raise VoicegraftError(f"there is no voice {voice!r}; choose among {', '.join(known)}")
    return list(asked or known)


def find_recordings(folders: Sequence[Path], voices: Sequence[str]) -> dict[str, HeldBack]:
    """Held-back recordings by voice; a speaker is the voice of the same name, in upper or lower case."""
    spelling = {voice.casefold(): voice for voice in voices}
    humans = {}
    for folder in folders:
        for speaker in dict.fromkeys(clip.speaker for clip in read_manifest(folder)):
            if clips := held_back(folder, speaker):
                humans[spelling.get(speaker.casefold(), speaker)] = HeldBack(folder, tuple(clips))
    if folders and not humans:
        names = ", ".join(map(str, folders))
        raise VoicegraftError(f"expected recordings that are held back from training in {names}, found none")
    return humans


def _recorded_items(
    stages: Sequence[str], speaker: SpeakerUnderTest | None, voice: str, human: HeldBack, limit: int | None
) -> Iterator[Item]:
    rate = speaker.sample_rate if speaker else _RECORDING_RATE
    makers: dict[str, Callable[[np.ndarray], np.ndarray]] = {}
    if speaker:
        makers = {SEMANTIC: lambda samples: speaker.resynthesize_semantic(samples, voice),
                  CODEC: speaker.resynthesize_codec}  # fmt: skip
    for stage in stages:
        if stage == SPEECH:
            continue
        for clip in human.clips[:limit]:
            read = partial(human.read, clip, rate)
            produce = partial(_remake, makers[stage], read) if stage in makers else read
            yield Item(stage, voice, clip.id, clip.text, produce)


def _remake(make: Callable[[np.ndarray], np.ndarray], read: Callable[[], Clip]) -> Clip:
    original = read()
    start = time.perf_counter()
    samples = make(original.samples)
    return Clip(samples, original.sample_rate, wall_sec=time.perf_counter() - start)


def _prompt_items(speaker: SpeakerUnderTest, voice: str, prompts: Sequence[str], seed: int) -> Iterator[Item]:
    def say(text: str) -> Clip:
        speech = speaker.say(text, voice=voice, seed=seed)
        return Clip(
            speech.samples,
            speech.sample_rate,
            speech.wall_sec,
            speech.first_audio_sec,
            speech.status,
            speech.spoken_text,
        )

    for number, text in enumerate(prompts, start=1):
        yield Item(SPEECH, voice, f"{number:04d}", text, partial(say, text))


def _save_clip(folder: Path, item: Item, clip: Clip) -> None:
    if item.stage != RECORDINGS and len(clip.samples):
        place = folder / item.stage.replace(" ", "-") / item.voice
        place.mkdir(parents=True, exist_ok=True)
        write_audio(place / f"{item.id}.flac", clip.samples, clip.sample_rate)


def _identity(
    config: EvaluateSpeechConfig,
    speaker: SpeakerUnderTest | None,
    prompts: Sequence[str],
    humans: Mapping[str, HeldBack],
) -> dict[str, Any]:
    """What rows depend on besides their key; rows of another identity must not be mixed in."""

    def digest(names: Sequence[str]) -> str:
        return hashlib.sha256(json.dumps(list(names)).encode()).hexdigest()[:16]

    return {
        "fingerprint": speaker.fingerprint if speaker else None,
        "seed": config.seed,
        "prompts": digest(prompts),
        "recordings": {voice: digest([clip.id for clip in human.clips]) for voice, human in humans.items()},
    }


def _about(
    config: EvaluateSpeechConfig,
    speaker: SpeakerUnderTest | None,
    voices: Sequence[str],
    humans: Mapping[str, HeldBack],
) -> dict[str, Any]:
    return {
        "pack": (config.pack.name if config.pack else "pocket") if speaker else None,
        "fingerprint": speaker.fingerprint if speaker else None,
        "prompts": config.prompts.name if config.prompts else None,
        "limit": config.limit,
        "seed": config.seed,
        "voices": list(voices),
        "recordings held back": {voice: len(human.clips) for voice, human in humans.items()},
        "date": time.strftime("%Y-%m-%d"),
    }


if __name__ == "__main__":
    main()
