"""Facts that an LLM knows in writing, asked and answered aloud: are they still right when they are heard?

    python -m benchmarks.spoken_answers [pack=assistant] [backbone=FOLDER] [voice=heart] [limit=50] [out=FILE.json]

The questions are those that listening is tested with (``evaluation.listening.items``); what counts is whether Whisper base
hears a right answer in the sound. Times are of the same run: to the first text, to the first sound, the real-time factor.
"""

from __future__ import annotations

import resource
import statistics
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.harness import report
from voicegraft.core.runtime import single_thread
from voicegraft.evaluation.judges.load import load_recognizer
from voicegraft.evaluation.listening.items import questions
from voicegraft.inference.speaker import Speaker
from voicegraft.inference.writer import WritingOptions
from voicegraft.recipes.command import recipe_config


@dataclass(frozen=True)
class SpokenAnswersConfig:
    pack: str = "assistant"
    backbone: str = ""  # in place of the pack's
    voice: str = ""  # empty: the pack's own
    recognizer: str = "whisper"
    limit: int = 50  # questions
    max_tokens: int = 64  # of an answer
    threads: int = 0  # of PyTorch; 0: its own number
    out: str = ""  # JSON file; empty: standard output only


def main(argv: list[str] | None = None) -> None:
    config = recipe_config(SpokenAnswersConfig, __doc__, argv)
    if config.threads == 1:
        single_thread()
    report(spoken_answers(config), config.out)


def spoken_answers(config: SpokenAnswersConfig) -> dict[str, Any]:
    speaker = Speaker.load(config.pack, config.backbone or None, num_threads=config.threads or None)
    recognizer, _ = load_recognizer(config.recognizer)
    rows: list[dict[str, Any]] = []
    for item in tqdm(list(questions().values())[: config.limit], desc="questions", unit="question"):
        stream = speaker.ask(item.text, config.voice or None, writing=WritingOptions(config.max_tokens))
        pieces = list(stream)
        heard = recognizer.transcribe(np.concatenate(pieces), speaker.sample_rate) if pieces else ""
        rows.append(
            {
                "question": item.text,
                "written": stream.text,
                "heard": heard,
                "written_right": item.is_right(stream.text),
                "heard_right": item.is_right(heard),
                "status": stream.report.status,
                "first_text_sec": round(stream.writing.first_text_sec, 3),
                "first_audio_sec": round(stream.report.first_audio_sec, 3),
                "wall_sec": round(stream.report.wall_sec, 3),
                "speech_sec": round(stream.report.duration_sec, 3),
            }
        )
    known = [row for row in rows if row["written_right"]]
    return {
        "asked": len(rows),
        "written right": len(known),
        "heard right, of these": sum(row["heard_right"] for row in known),
        "share": round(sum(row["heard_right"] for row in known) / max(1, len(known)), 3),
        "first text, ms (median)": round(1000 * statistics.median(row["first_text_sec"] for row in rows)),
        "first audio, ms (median)": round(1000 * statistics.median(row["first_audio_sec"] for row in rows)),
        "rtf with writing": round(sum(row["wall_sec"] for row in rows) / sum(row["speech_sec"] for row in rows), 3),
        "memory, MB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000),
        "not heard": [row for row in known if not row["heard_right"]],
        "answers": rows,
    }


if __name__ == "__main__":
    main()
