"""`voicegraft synthesize`: the same corpus by any number of processes, killed or not; nothing wrong or reserved is in it."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests import teaching
from tests.teaching import PITCH, made_up
from voicegraft.cli import main
from voicegraft.core.errors import VoicegraftError
from voicegraft.data.manifest import read_manifest
from voicegraft.evaluation.speech.reserved import TEST_VOICES, ReservedTexts
from voicegraft.evaluation.speech.robustness_suite import load_suite
from voicegraft.recipes import synthesis_clips
from voicegraft.recipes import synthesize as recipe
from voicegraft.recipes.prepare import PrepareConfig, prepare
from voicegraft.recipes.synthesize import MixtureConfig, SynthesizeConfig, synthesize

BAD = ("A xylophone is out of tune.", "There is silence in the hall.", "He shouts at the sea.", "!!")
RESERVED = (
    "The birch canoe slid on the smooth planks.",
    "So I said: well! Glue the sheet to the dark blue background.",
)
NAMES = ("Ada", "Bert", "Carla", "Dora", "Emil", "Fred", "Gina", "Hugo", "Ida", "Jim", "Kim")
GOOD = (*(f"{name} came with a bag." for name in NAMES), "It took 5 days.")


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    (tmp_path / "texts.txt").write_text("\n".join([*GOOD, *BAD, *RESERVED, "", GOOD[0]]))
    return tmp_path / "texts.txt"


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """All in this process: quick."""

    def one_by_one(work: Callable[[str], None], names: Sequence[str], num_workers: int) -> Iterator[str]:
        for name in names:
            work(name)
            yield name

    monkeypatch.setattr(recipe, "in_processes", one_by_one)


def config_of(texts: Path, out: str = "out", **changes: Any) -> SynthesizeConfig:
    config = SynthesizeConfig(texts=texts, out=texts.parent / out, voices=("ann", "ben"), workers=1)
    return replace(config, **changes)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def corpus(out: Path) -> dict[str, bytes]:
    """All files but those that name the folder and the workers."""
    files = (path for path in sorted(out.rglob("*")) if path.is_file() and path.name != "README.md")
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def test_texts_become_clips_with_what_is_known_of_them(texts: Path, here: None) -> None:
    config = config_of(texts)
    synthesize(config, made_up)
    kept = rows(config.out / "manifest.jsonl")
    assert {row["text"] for row in kept} == {*GOOD} and {row["speaker"] for row in kept} == {"ann", "ben"}
    for row in kept:
        assert row["synthetic"] is True and row["teacher"] == "made-up" and row["licence"] == "none"
        assert not any(map(str.isdigit, row["normalized_text"])) and 0.95 <= row["speed"] <= 1.08
        audio = soundfile.info(config.out / row["audio"])
        assert (audio.samplerate, audio.channels, audio.format) == (24_000, 1, "FLAC")
        assert audio.frames / 24_000 == pytest.approx(row["duration"], abs=1e-3)
        letters = [char for char in row["normalized_text"].lower() if char.isalpha()]
        assert row["phones"] == ["^", *letters, "$"]
        # Silence is cut to 0.1 s at both ends, and times with it.
        assert row["phone_ends_sec"][0] == pytest.approx(0.1, abs=0.021)
        assert row["phone_ends_sec"][-2] == pytest.approx(0.1 + 0.08 / row["speed"] * len(letters), abs=0.021)
        assert row["phone_ends_sec"][-1] == pytest.approx(row["duration"], abs=2e-3)
    assert all(row.synthetic for row in read_manifest(config.out))


def test_what_is_wrong_is_left_out_with_its_reason(texts: Path, here: None) -> None:
    config = config_of(texts)
    synthesize(config, made_up)
    rejected = {row["text"]: row["reason"] for row in rows(config.out / "rejected.jsonl")}
    wrong = dict(zip(BAD, ("unsayable", "silent", "clipped", "no_letters"), strict=True))
    assert rejected == wrong | dict.fromkeys(RESERVED, "reserved")
    assert len(list((config.out / "audio").iterdir())) == len(GOOD)
    card = (config.out / "README.md").read_text()
    assert "Teacher: made-up" in card and "(silent) | 1 |" in card and "12 clips" in card
    assert f"voicegraft synthesize texts={texts} out={config.out} 'voices=[" in card


def test_two_processes_of_which_one_is_killed_make_the_same_corpus(
    texts: Path, here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = config_of(texts, readings=2)
    synthesize(expected, made_up)
    monkeypatch.undo()
    marker = texts.parent / "mortal"
    marker.touch()
    config = config_of(texts, "killed", readings=2, workers=2, part=marker)
    synthesize(config, made_up)
    assert not marker.exists(), "nobody was killed"
    assert corpus(config.out) == corpus(expected.out)


@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize("place", ["write_audio", "write_text"])
def test_a_run_stopped_at_any_moment_goes_on_and_ends_the_same(
    texts: Path, here: None, step: int, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, config = config_of(texts, readings=2), config_of(texts, "stopped", readings=2)
    synthesize(expected, made_up)
    write, count = getattr(synthesis_clips, place), 0

    def stopped(path: Path, *rest: Any) -> None:
        nonlocal count
        count += 1
        if count == step * (1 if place == "write_text" else 7):
            path.parent.mkdir(exist_ok=True)
            path.with_name(f".{path.name}.123.partial").write_bytes(b"half")
            raise KeyboardInterrupt
        write(path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(synthesis_clips, place, stopped)
        with pytest.raises(KeyboardInterrupt):
            synthesize(config, made_up)
        assert not (config.out / "manifest.jsonl").exists()
    synthesize(config, made_up)
    assert corpus(config.out) == corpus(expected.out)


def test_with_more_hours_the_corpus_grows_to_what_it_would_have_been(texts: Path, here: None) -> None:
    short, long = config_of(texts, hours=0.003, readings=4), config_of(texts, "long", hours=0.009, readings=4)
    synthesize(short, made_up)
    few = rows(short.out / "manifest.jsonl")
    assert 0.003 <= sum(row["duration"] for row in few) / 3600 < 0.009
    assert len(list((short.out / "audio").iterdir())) == len(few)
    synthesize(long, made_up)
    synthesize(replace(short, hours=0.009), made_up)
    assert corpus(short.out) == corpus(long.out) and rows(short.out / "manifest.jsonl")[: len(few)] == few


def test_another_seed_is_another_corpus_and_is_not_mixed_in(texts: Path, here: None) -> None:
    config = config_of(texts)
    synthesize(config, made_up)
    (texts.parent / "more.txt").write_text(GOOD[2].upper())
    with pytest.raises(VoicegraftError, match=r"made otherwise \(seed was 0, now 1\): choose another out"):
        synthesize(replace(config, seed=1), made_up)
    with pytest.raises(VoicegraftError, match=r"made otherwise \(the texts changed\)"):
        synthesize(replace(config, never_say=(texts.parent / "more.txt",)), made_up)
    other = config_of(texts, "other", seed=1)
    synthesize(other, made_up)
    assert corpus(other.out)["manifest.jsonl"] != corpus(config.out)["manifest.jsonl"]


def test_prepare_reads_the_result(texts: Path, here: None) -> None:
    config, work = config_of(texts), texts.parent / "work"
    synthesize(config, made_up)
    prepare(PrepareConfig((str(config.out),), work, num_workers=1, val_share=0.1))
    (shard,) = (work / "speech").iterdir()
    kept = read_manifest(shard)
    assert {row.text for row in kept} == {row["normalized_text"] for row in rows(config.out / "manifest.jsonl")}
    assert {row.speaker for row in kept} == {"ann", "ben"} and {row.split for row in kept} == {"train", "val"}
    assert (work / "quarantine.jsonl").read_text().strip() == ""


class Deaf:
    name = "deaf"

    def transcribe(self, samples: np.ndarray, sample_rate: int) -> str:
        return "dora came with a bag"


def test_a_recogniser_rejects_what_it_hears_otherwise(texts: Path, here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voicegraft.evaluation.judges.load.load_recognizer", lambda name: (Deaf(), None))
    config = config_of(texts, check="pocketsphinx", max_word_errors=0.05)
    synthesize(config, made_up)
    assert [row["text"] for row in rows(config.out / "manifest.jsonl")] == [GOOD[3]]
    misread = [row for row in rows(config.out / "rejected.jsonl") if row["reason"] == "misread"]
    assert {row["text"] for row in misread} == {*GOOD} - {GOOD[3]}
    assert all(row["value"] > 0.05 and row["heard"].startswith("dora") for row in misread)


def test_mixtures_speak_and_can_be_made_again(texts: Path, here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    kokoro = texts.parent / "kokoro"
    teaching.write_kokoro(kokoro)
    config = config_of(texts, part=kokoro, voices=(), mixtures=MixtureConfig(count=3))
    synthesize(config, lambda name, folder, mixtures: made_up(name, None, mixtures))
    mixtures = json.loads((config.out / "mixtures.json").read_text())
    assert list(mixtures) == ["mix-0001", "mix-0002", "mix-0003"]
    assert not {voice for mixture in mixtures.values() for voice in mixture} & {*TEST_VOICES}
    kept = rows(config.out / "manifest.jsonl")
    assert {row["speaker"] for row in kept} == {*mixtures}
    assert all(row["mixture"] == mixtures[row["speaker"]] for row in kept)
    assert " mixtures.count=3 " in (config.out / "README.md").read_text()
    again = replace(config, out=texts.parent / "again", mixtures=MixtureConfig(file=config.out / "mixtures.json"))
    synthesize(again, lambda name, folder, mixtures: made_up(name, None, mixtures))
    assert corpus(again.out) == corpus(config.out)


def test_voices_of_tests_are_not_used_unless_it_is_said(texts: Path, here: None) -> None:
    assert "af_nova" in PITCH
    everyone = config_of(texts, voices=())
    synthesize(everyone, made_up)
    assert {row["speaker"] for row in rows(everyone.out / "manifest.jsonl")} == {"ann", "ben"}
    test = config_of(texts, "test", voices=("af_nova",))
    with pytest.raises(VoicegraftError, match=r"af_nova is kept for tests .* --allow-test-voices"):
        synthesize(test, made_up)
    mixed = texts.parent / "mixed.json"
    mixed.write_text('{"mix-0001": {"bf_emma": 1.0}}')
    with pytest.raises(VoicegraftError, match="bf_emma is kept for tests"):
        synthesize(replace(test, voices=(), mixtures=MixtureConfig(file=mixed)), made_up)
    synthesize(replace(test, allow_test_voices=True), made_up)
    assert {row["speaker"] for row in rows(test.out / "manifest.jsonl")} == {"af_nova"}


def test_what_evaluations_say_is_known_however_it_is_written(tmp_path: Path) -> None:
    reserved = ReservedTexts(["My own test sentence, please."])
    assert all(item.text in reserved for item in load_suite() if any(map(str.isalnum, item.text)))
    assert "the BIRCH canoe slid, on the smooth planks" in reserved and "my own test sentence please" in reserved
    assert "" not in reserved and "..." not in reserved and GOOD[0] not in reserved
    assert "Squirrel." in reserved and "Squirrel. Where is it now?" not in reserved


@pytest.mark.parametrize(
    ("changes", "content", "message"),
    [
        ({}, "\n\n", "holds nothing to say: expected one utterance a line"),
        ({}, "Squirrel\n", "evaluations say all of its texts"),
        ({"voices": ("zoe", "ann")}, "Hello there.", "made-up has no voice zoe; its voices are ann, ben, af_nova"),
        ({}, BAD[1], r"nothing could be kept \(silent: 1\): see .*rejected.jsonl"),
        ({"plan": True}, BAD[1], r"none of the first 1 clips could be kept \(silent: 1\)"),
        (
            {"teacher": "flite", "mixtures": MixtureConfig(count=2)},
            "Hello there.",
            "mixed of Kokoro only, not of flite",
        ),
        (
            {"mixtures": MixtureConfig(file=Path("nothing.json"))},
            "Hello there.",
            "cannot read mixtures of nothing.json",
        ),
    ],
)
def test_mistakes_are_told(texts: Path, here: None, changes: dict[str, Any], content: str, message: str) -> None:
    texts.write_text(content)
    with pytest.raises(VoicegraftError, match=message):
        synthesize(config_of(texts, **changes), made_up)


def test_a_folder_of_something_else_is_left_alone(texts: Path, here: None) -> None:
    config = config_of(texts)
    config.out.mkdir()
    (config.out / "thesis.doc").touch()
    with pytest.raises(VoicegraftError, match="holds something else: choose another out"):
        synthesize(config, made_up)


def test_the_plan_says_clips_time_and_disk_and_writes_nothing(
    texts: Path, here: None, capsys: pytest.CaptureFixture[str]
) -> None:
    texts.write_text("\n".join(GOOD))
    config = config_of(texts, plan=True, hours=0.004)
    synthesize(config, made_up)
    said = capsys.readouterr().out
    synthesize(replace(config, plan=False), made_up)
    kept = rows(config.out / "manifest.jsonl")
    clips = next(int(line.split()[1]) for line in said.splitlines() if line.startswith("clips"))
    assert abs(clips - len(kept)) <= synthesis_clips.BLOCK
    assert " of 0.004" in said and "of one core" in said and "MB are free" in said
    shutil.rmtree(config.out)
    synthesize(config, made_up)
    assert not config.out.exists()


def test_the_command_line(texts: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit):
        main(["synthesize", "--help"])
    said = capsys.readouterr().out
    assert "hours: float = 1.0\n      of speech that is kept" in said and "[--allow-test-voices]" in said
    wanted = [f"texts={texts}", f"out={texts.parent / 'out'}", f"part={texts.parent}"]
    assert main(["synthesize", *wanted]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "voicegraft parts get kokoro" in said
    monkeypatch.setattr(recipe, "_make", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    teaching.write_kokoro(texts.parent / "kokoro")
    assert main(["synthesize", *wanted[:2], f"part={texts.parent / 'kokoro'}"]) == 130
