"""The speech of the pocket pack: what Kokoro reads aloud, recordings, and many speakers whose texts are not used."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from voicegraft.audio.io import write_audio
from voicegraft.core.files import write_text
from voicegraft.data.corpora import unpack
from voicegraft.data.prepared import PreparedSpeech
from voicegraft.recipes.prepare import PrepareConfig, prepare
from voicegraft.recipes.synthesize import MixtureConfig, SynthesizeConfig, synthesize

SPEAKERS = "speechocean762"  # as its shards are called

# Those of Kokoro's English voices that are not for tests alone, but af_nicole, who whispers, and am_santa.
KOKORO = (
    *("af_alloy", "af_aoede", "af_bella", "af_heart", "af_jessica", "af_kore", "af_river", "af_sarah", "af_sky"),
    *("am_adam", "am_echo", "am_eric", "am_liam", "am_michael", "am_onyx", "am_puck"),
    *("bf_alice", "bf_isabella", "bf_lily", "bm_daniel", "bm_fable", "bm_lewis"),
)


@dataclass(frozen=True)
class Reading:
    """As in `SynthesizeConfig`."""

    hours: float
    voices: tuple[str, ...] = ()
    mixtures: MixtureConfig = field(default_factory=MixtureConfig)
    slowest: float = 0.95
    fastest: float = 1.08


def _readings() -> dict[str, Reading]:
    return {
        "heart": Reading(1.23, ("af_heart",)),
        "michael": Reading(0.7, ("am_michael",)),
        "isabella": Reading(0.25, ("bf_isabella",)),
        "voices": Reading(0.65, KOKORO, slowest=0.85, fastest=1.2),
        "mixtures": Reading(0.18, mixtures=MixtureConfig(count=100), slowest=0.88, fastest=1.15),
    }


@dataclass(frozen=True)
class SpeechConfig:
    recordings: tuple[str, ...] = ("kathleen", "ljspeech-part")  # corpora with manifest.jsonl: the human voices
    readings: dict[str, Reading] = field(default_factory=_readings)  # name of the shards -> what Kokoro reads
    kokoro: Path | None = None  # folder of Kokoro; null: where parts are kept
    speakers: str = "speechocean762-adults"  # corpus of many speakers, for the codec, acoustic LM and voice encoder
    held_out: tuple[str, ...] = (  # of these speakers, for testing voices that are made like a recording
        *("so0560", "so1012", "so1309", "so2036", "so2170"),
        *("so2282", "so2621", "so8002", "so9611", "so9624"),
    )
    workers: int = 2  # processes


def make_readings(config: SpeechConfig, work: Path) -> None:
    """Kokoro reads sentences of the books and dialogues into ``readings/``, other ones in each of the corpora."""
    for seed, (name, reading) in enumerate(config.readings.items()):
        synthesize(
            SynthesizeConfig(
                work / "sentences.txt",
                work / "readings" / name,
                part=config.kokoro,
                seed=seed,
                workers=config.workers,
                **vars(reading),
            )
        )


def prepare_speech(config: SpeechConfig, data: Path, work: Path) -> None:
    """All that the speech expert learns from, together: what one corpus holds back, none trains on."""
    unpack(data, work / "corpora", config.recordings)
    corpora = [work / "corpora" / name for name in config.recordings]
    corpora += [work / "readings" / name for name in config.readings]
    prepare(PrepareConfig(tuple(map(str, corpora)), work, features=True, num_workers=config.workers))


def prepare_speakers(config: SpeechConfig, data: Path, work: Path) -> None:
    """The corpus of many speakers, some of them held out."""
    unpack(data, work / "corpora", [config.speakers])
    corpus, manifest = work / "corpora" / config.speakers, work / "held-out" / SPEAKERS
    hold_out(corpus, config.held_out, manifest)
    prepare(PrepareConfig((str(manifest),), work, audio_root=corpus, features=True, num_workers=config.workers))


def hold_out(corpus: Path, speakers: Sequence[str], into: Path) -> None:
    """Copies a corpus's manifest: its speakers are called so..., and all of those in ``speakers`` is the test split."""
    rows = [json.loads(line) for line in (corpus / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]
    for row in rows:
        row["speaker"] = f"so{row['speaker']}"
        row["split"] = "test" if row["speaker"] in speakers else "train"
    write_text(into / "manifest.jsonl", "\n".join(json.dumps(row, ensure_ascii=False) for row in rows))


def write_held_back(speech: PreparedSpeech, names: Mapping[str, str], into: Path) -> None:
    """The held-back clips of the voices that ship, under their new names, as a corpus that an evaluation reads.

    Args:
        names: speaker as in training -> name of the voice.
    """
    rows = []
    (into / "audio").mkdir(parents=True, exist_ok=True)
    for clip in speech.select("val"):
        u = clip.utterance
        if u.speaker in names:
            name = f"{clip.folder.name}-{clip.row}"
            write_audio(into / "audio" / f"{name}.flac", speech.samples(clip), speech.rate(clip))
            row = {"id": name, "audio": f"audio/{name}.flac", "text": u.text, "speaker": names[u.speaker]}
            rows.append(json.dumps({**row, "split": "test", "duration": u.duration_sec}, ensure_ascii=False))
    write_text(into / "manifest.jsonl", "\n".join(rows))
