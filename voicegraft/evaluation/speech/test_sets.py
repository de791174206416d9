"""Prompts, and public test sets of zero-shot speech synthesis: read from the user's copies, and how they compare texts.

The test sets name a text to say and a recording whose voice to say it in. A voice pack has voices of its own: of these tests it
takes the texts and the word error rate, while the similarity to the prompt is for systems that clone voices.
"""

from __future__ import annotations

import json
import string
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from voicegraft.core.errors import VoicegraftError
from voicegraft.core.text_input import file_lines
from voicegraft.evaluation.metrics.rates import normalize_transcript

_PAIRS = "librispeech_pc_test_clean_cross_sentence.lst"
_MANIFEST = "test-clean.json"
_SHORTEST_SEC, _LONGEST_SEC = 4.0, 10.0  # the clips of LibriSpeech-PC that are used for cross-sentence synthesis


@dataclass(frozen=True)
class Prompt:
    """Something to say. `voice` is the recording whose voice a cloning system should take, where a test names one."""

    id: str
    text: str
    voice: Path | None = None


@dataclass(frozen=True)
class TestSet:
    __test__ = False  # no test, for pytest

    """A test set and the form in which its own scripts compare texts."""

    name: str
    read: Callable[[Path], list[Prompt]]
    normalize: Callable[[str], str]
    recognizer: str  # whose word error rates are published
    speaker_judge: str


def read_prompts(path: Path) -> list[str]:
    """Prompts of a UTF-8 file, one per line; empty lines are skipped.

    Raises VoicegraftError if the file cannot be read, holds no prompt, or a prompt has no word.
    """
    prompts = [line for _, line in _lines(path)]
    if wordless := [prompt for prompt in prompts if not normalize_transcript(prompt)]:
        raise VoicegraftError(f"{path} holds the prompt {wordless[0]!r}, in which there is no word; remove it")
    return prompts


def drop_marks(text: str, keep: str = "") -> str:
    """Lower case without punctuation, single spaces; marks vanish and join what they stood between ("x-ray" -> "xray").

    Marks are those of ASCII, symbols included, and Unicode's punctuation; `keep` holds exceptions.
    """
    kept = (
        char
        for char in text
        if char in keep or not (char in string.punctuation or unicodedata.category(char).startswith("P"))
    )
    return " ".join("".join(kept).lower().split())


def seed_tts_form(text: str) -> str:
    """The form of seed-tts-eval: typewriter apostrophes stay, curly ones vanish like all other marks."""
    return drop_marks(text, keep="'")


def read_seed_tts(folder: Path) -> list[Prompt]:
    """Prompts of `folder`/meta.lst: lines of `id|prompt's text|prompt's audio|text` and maybe `|human audio`.

    The folder is one language of the public archive, such as seedtts_testset/en.
    """
    prompts = []
    for number, line in _lines(folder / "meta.lst"):
        fields = line.split("|")
        if len(fields) not in (4, 5) or not all(fields[:4]):
            raise VoicegraftError(
                f"{folder / 'meta.lst'}:{number}: expected id|prompt text|prompt audio|text[|human audio], got {line!r}"
            )
        if not (folder / fields[2]).resolve().is_relative_to(folder.resolve()):
            raise VoicegraftError(f"{folder / 'meta.lst'}:{number} names {fields[2]!r}, which lies outside that folder")
        prompts.append(Prompt(fields[0], fields[3], folder / fields[2]))
    return prompts


def read_librispeech_pc(folder: Path) -> list[Prompt]:
    """Prompts of LibriSpeech-PC test-clean (OpenSLR 145) for cross-sentence synthesis.

    Either `folder`/librispeech_pc_test_clean_cross_sentence.lst, the pairs that F5-TTS published, with lines of
    prompt id, its seconds, its text, id, seconds, text between tabs; or `folder`/test-clean.json, the corpus's own
    manifest, of which the clips of 4 to 10 s are used and no voice is prescribed. The audio of LibriSpeech is looked for
    in `folder`, `folder`/test-clean and `folder`/LibriSpeech/test-clean.
    """
    if (folder / _PAIRS).is_file():
        return list(_read_pairs(folder))
    if not (folder / _MANIFEST).is_file():
        raise VoicegraftError(f"expected {_PAIRS} or {_MANIFEST} in {folder}, found neither")
    prompts = []
    for number, line in _lines(folder / _MANIFEST):
        try:
            row = json.loads(line)
            if _SHORTEST_SEC <= float(row["duration"]) <= _LONGEST_SEC:
                prompts.append(Prompt(Path(row["audio_filepath"]).stem, str(row["text"])))
        except (ValueError, KeyError, TypeError) as error:
            raise VoicegraftError(
                f"{folder / _MANIFEST}:{number}: not a line of the manifest ({error!r}); expected a JSON object with "
                "audio_filepath, duration, text"
            ) from error
    return prompts


def _read_pairs(folder: Path) -> Iterator[Prompt]:
    places = (folder, folder / "test-clean", folder / "LibriSpeech" / "test-clean")
    root = next((p for p in places if p.is_dir() and any(c.name.isdigit() for c in p.iterdir())), places[-1])
    for number, line in _lines(folder / _PAIRS):
        fields = line.split("\t")
        if len(fields) != 6 or fields[0].count("-") != 2:
            raise VoicegraftError(
                f"{folder / _PAIRS}:{number}: expected prompt id, seconds, text, id, seconds, text between tabs, got {line!r}"
            )
        reader, chapter, _ = fields[0].split("-")
        yield Prompt(fields[3], fields[5], root / reader / chapter / f"{fields[0]}.flac")


def _lines(path: Path) -> list[tuple[int, str]]:
    """Numbered lines that hold something."""
    found = [(number, line.strip()) for number, line in enumerate(file_lines(path), start=1) if line.strip()]
    if not found:
        raise VoicegraftError(f"{path} is empty, it holds no prompt; expected one per line")
    return found


_WAVLM = "WavLM-large fine-tuned by UniSpeech's recipe (no safetensors published)"
TEST_SETS = {
    test_set.name: test_set
    for test_set in (
        TestSet("seed-tts-eval", read_seed_tts, seed_tts_form, "openai/whisper-large-v3", _WAVLM),
        TestSet("librispeech-pc", read_librispeech_pc, drop_marks, "whisper-large-v3 (faster-whisper)", _WAVLM),
    )
}


def read_test_set(name: str, folder: Path | None) -> tuple[TestSet, list[Prompt]]:
    """A test set and its prompts; without `voice` where none of the recordings is there.

    Raises VoicegraftError for an unknown name, no folder, another layout, or if only some recordings are there.
    """
    if name not in TEST_SETS:
        raise VoicegraftError(f"there is no test set {name!r}; choose among {', '.join(TEST_SETS)}")
    if folder is None:
        raise VoicegraftError(f"--test-set {name} needs --test-set-dir DIR, the folder of your copy of the test set")
    prompts = TEST_SETS[name].read(folder)
    missing = [prompt for prompt in prompts if prompt.voice is not None and not prompt.voice.is_file()]
    if missing and len(missing) < len(prompts):
        raise VoicegraftError(
            f"{len(missing)} of the {len(prompts)} recordings to clone are missing in {folder}, such as "
            f"{missing[0].voice}; complete the copy, or take all of them away to measure without them"
        )
    return TEST_SETS[name], [replace(prompt, voice=None) for prompt in prompts] if missing else prompts
