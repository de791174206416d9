"""Records what the pack that ships says without random draws, for tests/test_recorded.py: python -m tools.record_pocket

To be run when a new pack takes the old one's place, and only then.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from safetensors.numpy import save_file

from voicegraft.core.runtime import single_thread
from voicegraft.inference.engine import SentenceTokens, sentence_tokens
from voicegraft.inference.sentence import SpeakOptions
from voicegraft.inference.speaker import Speaker

FOLDER = Path("tests/recorded")
TEXTS = (
    ("heart", "Hello! I am a language model, and this is my voice."),
    ("heart", "It is half past nine, and the tea costs $2.50."),
    ("michael", "Dr. Smith, who lives at 221B Baker Street, will read the FBI report on May 3rd; won't he?"),
    ("kathleen", "Yes. No! Perhaps, perhaps not... The birch canoe slid on the smooth planks."),
    ("LJ", "Glue the sheet to the dark blue background."),
    ("isabella", "Call 555-0199 at 7:30, or write to me@example.com."),
)
QUESTIONS = (
    "Peter has a red coat. What colour is the coat of Peter?",
    "Mary lives in Paris. Where does Mary live?",
    "What is the capital of France?",
)
PANGRAM = "The quick brown fox jumps over the lazy dog, and nobody minds."


def greedy(options: SpeakOptions) -> SpeakOptions:
    """Nothing is drawn: the likeliest tokens, median lengths, and a guard that only watches (a retry would draw)."""
    semantic, guard = replace(options.semantic, temperature=0.0), replace(options.guard, mode="watch")
    return replace(options, semantic=semantic, length_spread=0.0, guard=guard)


def said(speaker: Speaker, voice: str, text: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What is said, and its tokens and every eighth sample."""
    sentences: list[SentenceTokens] = []

    def kept(*arguments: Any, **options: Any) -> SentenceTokens:
        sentences.append(sentence_tokens(*arguments, **options))
        return sentences[-1]

    with patch("voicegraft.inference.speaker.sentence_tokens", kept):
        speech = speaker.say(text, voice=voice, options=greedy(speaker.pack.header.options))
    codes = [code for sentence in sentences for code in sentence.machine.codes]
    words = [[w.word, round(w.start_sec, 6), round(w.end_sec, 6)] for s in speech.sentences for w in s.words]
    about = {
        "voice": voice,
        "text": text,
        "spoken": speech.spoken_text,
        "units": " ".join(unit for sentence in sentences for unit in sentence.units),
        "num_samples": len(speech.samples),
        "words": words,
    }
    return about, {"tokens": np.array(codes, np.int16), "samples": speech.samples[::8].copy()}


def last_logits(speaker: Speaker) -> np.ndarray:
    """Of the text's last four positions, `[4, V]`."""
    lm = speaker.pack.lm
    logits = lm.text_logits(torch.tensor([lm.text_ids(PANGRAM)]))[0, -4:]
    return np.asarray(logits.detach().float().cpu())


def main() -> None:
    single_thread()
    speaker = Speaker.load()
    speech: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    for number, (voice, text) in enumerate(TEXTS):
        about, made = said(speaker, voice, text)
        speech.append(about)
        arrays |= {f"{number}.{name}": array for name, array in made.items()}
    answers = [{"question": question, "answer": "".join(speaker.write(question))} for question in QUESTIONS]
    arrays["text_logits"] = last_logits(speaker)
    FOLDER.mkdir(exist_ok=True)
    save_file(arrays, FOLDER / "pocket.safetensors")
    (FOLDER / "pocket.json").write_text(
        json.dumps({"speech": speech, "answers": answers}, indent=1) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
