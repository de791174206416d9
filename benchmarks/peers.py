"""What small systems of others make of the same sentences, beside a pack's voices, under the same judges.

    python -m benchmarks.peers --prompts FILE --out OUT [--limit 100] [--pack DIR] [--recognizer whisper:FOLDER]

The peers are Kokoro-82M (af_heart), flite (slt) and Piper (en_US-joe-medium), each on one thread. One that is not installed is
left out, and standard error says what to install. OUT/NAME has what a peer said, OUT/reports what `voicegraft evaluate speech`
writes of each system, OUT/peers.json the table. An interrupted run goes on where it stopped; what is there is not said again.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import report
from benchmarks.peer_engines import PEERS, Opener, speak
from voicegraft.core.command_line import read_options
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.ledger import Row
from voicegraft.core.runtime import single_thread
from voicegraft.evaluation.judges.base import Judges
from voicegraft.evaluation.judges.load import load_judges
from voicegraft.evaluation.reports.document import decimal, interval
from voicegraft.evaluation.reports.summary import environment, summarize
from voicegraft.evaluation.speech.test_sets import Prompt, read_prompts
from voicegraft.inference.speaker import Speaker
from voicegraft.recipes.evaluate_speech import EvaluateSpeechConfig, evaluate_speech

_COLUMNS = {"WER [95 %]": ("wer", 3), "CER [95 %]": ("cer", 3), "DNSMOS [95 %]": ("mos", 2), "RTF [95 %]": ("rtf", 3)}


@dataclass(frozen=True)
class PeersConfig:
    prompts: Path  # what to say: UTF-8, one prompt per line, such as the Harvard sentences
    out: Path  # folder for speech, reports and the table
    limit: int | None = None  # prompts, from the first
    pack: Path | None = None  # voice pack to put beside them; none: the peers alone
    voices: tuple[str, ...] = ()  # of the pack; none: all
    recognizer: str = "whisper"  # or whisper:MODEL, pocketsphinx


def main(argv: list[str] | None = None) -> None:
    single_thread()
    compare(read_options(PeersConfig, argv, __doc__, "python -m benchmarks.peers", names={"voices": "voice"}))


def compare(
    config: PeersConfig,
    peers: Mapping[str, Opener] = PEERS,
    judges: Judges | None = None,
    speaker: Speaker | None = None,
) -> list[dict[str, str]]:
    """Has the peers speak, judges all systems, prints and writes the table, and returns it: a row per voice.

    judges, speaker: None loads the real ones.
    Raises VoicegraftError where nobody is left to compare, and as the evaluation does.
    """
    lines = read_prompts(config.prompts)[: config.limit]
    prompts = [Prompt(f"{number:04d}", text) for number, text in enumerate(lines, start=1)]  # as the evaluation counts
    took, systems = {}, {}
    for name, opener in peers.items():
        try:
            systems[name], took[name] = speak(opener, prompts, config.out / name)
        except VoicegraftError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    if config.pack and speaker is None:
        speaker = Speaker.load(config.pack)
    if not systems and speaker is None:
        raise VoicegraftError("no peer can speak, and there is no --pack: nothing to compare")
    judges = judges or load_judges(config.recognizer, faults="none")
    rows = []
    # An evaluation of its own for each: another pack, or a peer that is installed later, leaves the others' as they are.
    reports = config.out / "reports"
    for name, by_prompt in took.items():
        audio = ((name, config.out / name),)
        out = reports / f"{name}-{len(prompts)}"
        given = EvaluateSpeechConfig(out, config.prompts, audio=audio, limit=len(prompts))
        judged = evaluate_speech(given, None, judges)["rows"]
        # The evaluation reads files, which do not tell how long they took.
        rows += [{**row, "wall_sec": by_prompt.get(row["id"], {}).get("wall_sec")} for row in judged]
    if speaker:
        systems["pack"] = speaker.fingerprint
        out = reports / "-".join(("pack", speaker.fingerprint[:8], *config.voices, str(len(prompts))))
        given = EvaluateSpeechConfig(out, config.prompts, config.pack, voices=config.voices, limit=len(prompts))
        judged = evaluate_speech(given, speaker, judges)["rows"]
        rows += [{**row, "voice": f"pack {row['voice']}"} for row in judged]  # a peer may have the name of a voice
    cells = [
        {
            "voice": str(one["voice"]),
            "clips": str(one["num_clips"]),
            **{title: interval(one["estimates"].get(name), digits) for title, (name, digits) in _COLUMNS.items()},
            "CPU s per s": decimal(_cpu_per_sec(took.get(one["voice"]), one["duration_sec"]), 3),
        }
        for one in summarize(rows)
    ]
    measured_on = {"systems": systems, "judges": dict(judges.names), "environment": environment()}
    report({"table": cells, **measured_on}, str(config.out / "peers.json"), cells)
    return cells


def _cpu_per_sec(took: Mapping[str, Row] | None, duration_sec: float) -> float | None:
    """Seconds of computing per second of speech, whatever else runs on the machine; the evaluation does not tell a pack's."""
    return sum(row["cpu_sec"] for row in took.values()) / duration_sec if took else None


if __name__ == "__main__":
    main()
