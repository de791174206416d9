"""`voicegraft prepare`: the same shards from every layout, stopped or not, by one process or two; nothing lost in silence."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests import layouts
from tests.layouts import RATE, SPOKEN, Spoken
from voicegraft.audio.io import WavPipe
from voicegraft.core.errors import VoicegraftError
from voicegraft.data import ingest
from voicegraft.data.checks import REASONS, Examined, Limits
from voicegraft.data.manifest import read_manifest
from voicegraft.data.prepared import PreparedSpeech, shard_folders
from voicegraft.data.shards import RaggedArray
from voicegraft.data.sources.record import Record
from voicegraft.data.splits import Splits
from voicegraft.evaluation.reports import corpus as corpus_report
from voicegraft.evaluation.reports.document import draw
from voicegraft.recipes import prepare as recipe
from voicegraft.recipes.prepare import PrepareConfig, prepare

LIMITS = Limits(max_sec=3.0)

pytestmark = pytest.mark.usefixtures("no_picture")


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def config_of(corpus: Path, work: Path, **changes: Any) -> PrepareConfig:
    base = PrepareConfig((str(corpus),), work, name="mine", shard_size=4, num_workers=1, val_share=0.1, limits=LIMITS)
    return replace(base, **changes)


def content(work: Path) -> dict[str, tuple[str, bytes]]:
    """Id -> text and samples of all shards."""
    found = {}
    for folder in shard_folders(work):
        audio = RaggedArray(folder / "audio", key=f"pcm-{RATE}")
        for row, samples in zip(read_manifest(folder), audio, strict=True):
            assert row.duration_sec == len(samples) / RATE
            found[row.id.rpartition("/")[2]] = (row.text.lower(), samples.tobytes())
    return found


def everything(work: Path) -> dict[str, bytes]:
    return {str(path.relative_to(work)): path.read_bytes() for path in sorted(work.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two speakers, nine utterances, one of which cannot be used."""
    more = tuple(replace(SPOKEN[0], id=f"12-2-{n:04d}", speaker="12", text=f"Number {n} is here.") for n in range(3))
    root = layouts.pairs(tmp_path_factory.mktemp("corpus") / "two", SPOKEN + more)
    (root / "12" / "12-1-0001.txt").write_text("...\n")
    return root


@pytest.fixture(scope="module")
def whole(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work folder of a run that nobody stopped."""
    work = tmp_path_factory.mktemp("whole") / "work"
    prepare(config_of(corpus, work))
    return work


@pytest.mark.parametrize("name", layouts.LAYOUTS)
def test_all_layouts_give_the_same_shards(name: str, tmp_path: Path) -> None:
    prepare(config_of(layouts.LAYOUTS[name][1](tmp_path / "corpus"), tmp_path / "work"))
    assert [f.name for f in shard_folders(tmp_path / "work")] == ["mine-000", "mine-001"]
    prepared = content(tmp_path / "work")
    assert {clip.id: text for clip, (text, _) in zip(SPOKEN, prepared.values(), strict=True)} == {
        clip.id: clip.text.lower() for clip in SPOKEN
    }
    for clip in SPOKEN:
        samples = np.frombuffer(prepared[clip.id][1], np.int16) / 32768
        assert len(samples) % (RATE // 50) == 0
        kept = clip.samples[RATE * 15 // 100 : -RATE * 15 // 100] / 32768  # a tenth of a second of silence stays
        assert abs(len(samples) - len(kept)) <= 2 * RATE // 50
        both = min(len(samples), len(kept))
        gain = np.abs(samples).max() / np.abs(kept).max()
        offset = int(np.flatnonzero(samples)[0] - np.flatnonzero(kept)[0])
        moved = np.roll(samples, -offset)[: both - RATE // 10]
        assert np.abs(moved - gain * kept[: len(moved)]).max() < 2e-3


def faulty(root: Path) -> Path:
    """A manifest with one recording for every reason, and a good one."""
    rows: list[dict[str, Any]] = []

    def add(name: str, text: str = "Now the owl sees.", scale: float = 1.0, **changes: Any) -> None:
        fields = {key: changes.pop(key) for key in ("seconds", "rate") if key in changes}
        clip = Spoken(name, text, "ann", **fields)
        samples = np.clip(clip.samples * scale, -32767, 32767).astype(np.int16)
        soundfile.write(root / f"{name}.wav", samples, clip.rate)
        rows.append({"audio": f"{name}.wav", "text": text, "id": name} | changes)

    root.mkdir()
    add("good")
    add("duplicate_id", id="good")
    add("no_text", "  ")
    add("bad_text", "Now \ud800 then.")
    add("no_letters", "?! ...")
    add("unreadable")
    (root / "unreadable.wav").write_bytes(b"this is not audio")
    add("past_end", offset=1.5, duration=2.0)
    add("low_rate", rate=11_025)
    add("too_long", seconds=2.6)
    add("silent", scale=0.001)
    add("clipped", scale=20.0)
    add("too_short", seconds=0.2)
    add("too_slow", "a")
    add("too_fast", "the owl sees my house " * 5)
    add("cut_short")
    whole = (root / "cut_short.wav").read_bytes()
    (root / "cut_short.wav").write_bytes(whole[: len(whole) // 2])
    add("cancelled")
    samples, rate = soundfile.read(root / "cancelled.wav", dtype="int16")
    soundfile.write(root / "cancelled.wav", np.stack([samples, -samples], 1), rate)
    rows.append({"audio": "none.wav", "text": "Now.", "id": "audio_missing"})
    rows.append({"text": "Now.", "id": "bad_row"})
    (root / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return root


def test_every_reason_is_told_with_value_and_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(corpus_report, "draw", draw)
    work = tmp_path / "work"
    prepare(config_of(faulty(tmp_path / "corpus"), work, val_share=0.0))
    rows = [json.loads(line) for line in (work / "quarantine.jsonl").read_text().splitlines()]
    by_reason = {row["reason"]: row for row in rows}
    assert by_reason.keys() == REASONS.keys() and len(rows) == len(REASONS)
    odd = {"duplicate_id": "good", "bad_row": f"{tmp_path}/corpus/manifest.jsonl:18"}
    assert all(row["id"] == odd.get(row["reason"], row["reason"]) and row["corpus"] == "mine" for row in rows)
    assert all(row["path"].endswith(".wav") for row in rows if row["reason"] != "bad_row")
    measured = {
        "past_end": (3.5, 2.0), "low_rate": (11_025, 16_000), "too_long": (3.1, 3.0), "too_slow": (0.588235, 2.0),
        "too_short": (0.42, 0.5), "cut_short": (1.0, 2.0),
    }  # fmt: skip
    for reason, (value, limit) in measured.items():
        assert by_reason[reason]["value"] == pytest.approx(value, rel=0.03) and by_reason[reason]["limit"] == limit
    assert by_reason["silent"]["value"] < LIMITS.min_level_db and by_reason["clipped"]["value"] > 0.1
    assert by_reason["too_fast"]["value"] > 30 and "unreadable.wav as audio" in by_reason["unreadable"]["value"]
    assert list(content(work)) == ["good"]
    told = capsys.readouterr().out
    assert "mine: 1 of 18 recordings kept" in told and "1 past_end" in told
    text = (work / "prepare" / "report.md").read_text()
    assert all(f"| {reason} | {meaning} |" in text for reason, meaning in REASONS.items())
    assert "| good |" in text and "| too_long: 3.1, limit 3 |" in text
    report = json.loads((work / "prepare" / "report.json").read_text())
    assert report["corpora"]["mine"]["all"]["clips"] == 18 and report["corpora"]["mine"]["kept"]["clips"] == 1
    assert sum(report["measures"]["letters_per_sec"]["kept"]) == 1
    assert report["characters"]["w"] == 2 and report["file_rates"] == {str(RATE): 1}
    assert "</svg>" in (work / "prepare" / "clips.svg").read_text()


def test_a_text_in_another_encoding_is_rejected(tmp_path: Path) -> None:
    layouts.pairs(tmp_path / "c", SPOKEN[:3])
    (tmp_path / "c" / "11" / "11-1-0001.txt").write_bytes("Кто там? Это я.".encode("cp1251"))
    prepare(config_of(tmp_path / "c", tmp_path / "work"))
    assert json.loads((tmp_path / "work" / "quarantine.jsonl").read_text())["reason"] == "bad_text"


def test_a_wav_from_a_pipe_is_whole_and_a_constant_is_silent(tmp_path: Path) -> None:
    layouts.pairs(tmp_path / "c", SPOKEN[:3])
    piped, constant = (tmp_path / "c" / "11" / f"{SPOKEN[n].id}.wav" for n in (0, 1))
    with piped.open("wb") as file, WavPipe(file, RATE) as pipe:
        pipe.write((SPOKEN[0].samples / 32768).astype(np.float32))
    soundfile.write(constant, np.full((2 * RATE, 1), 0.3), RATE)
    prepare(config_of(tmp_path / "c", tmp_path / "work"))
    (row,) = (json.loads(line) for line in (tmp_path / "work" / "quarantine.jsonl").read_text().splitlines())
    assert (row["reason"], row["value"]) == ("silent", -120.0) and row["path"] == str(constant)


def test_a_flac_that_ends_early_is_rejected(tmp_path: Path) -> None:
    clip = replace(SPOKEN[0], seconds=3.0)
    layouts.pairs(tmp_path / "c", (clip, *SPOKEN[1:3]), ".flac")
    path = tmp_path / "c" / "11" / f"{clip.id}.flac"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    prepare(config_of(tmp_path / "c", tmp_path / "work", limits=Limits()))
    (row,) = (json.loads(line) for line in (tmp_path / "work" / "quarantine.jsonl").read_text().splitlines())
    assert row["reason"] in ("cut_short", "unreadable")


def killed(run: Callable[[], None]) -> None:
    """Runs in a process that is to end by ``os._exit(9)``, as if killed."""
    process = os.fork()
    if not process:
        try:
            run()
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 9


@pytest.mark.parametrize(
    "point", ["examine 0", "examine 3", "examine 5", "examine 8", "text 1", "text 2", "text 4", "sync 9"]
)
def test_a_killed_run_that_is_started_again_ends_as_if_never_stopped(
    point: str, corpus: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while examining, or before a shard's outcome or the report is written, or while a folder is completed."""
    from voicegraft.core import artifacts
    from voicegraft.evaluation.reports import document

    what, number = point.split()
    work = tmp_path / "work"
    calls = [0]

    def deadly(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if calls[0] == int(number):
                os._exit(9)
            calls[0] += 1
            return function(*arguments)

        return call

    with monkeypatch.context() as patch:
        places = {"examine": [(ingest, "examine")], "sync": [(artifacts, "_sync")]}
        places["text"] = [(ingest, "write_text"), (document, "write_text")]
        for module, name in places[what]:
            patch.setattr(module, name, deadly(getattr(module, name)))
        killed(lambda: prepare(config_of(corpus, work)))
    unfinished = everything(work)
    prepare(config_of(corpus, work))
    assert everything(work) == everything(whole) != unfinished


def test_a_finished_shard_is_not_made_again(corpus: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = everything(whole)
    monkeypatch.setattr(ingest, "examine", None)
    prepare(config_of(corpus, whole))
    assert everything(whole) == before


def test_ctrl_c_leaves_nothing_half_made(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examined = []

    def interrupted(*arguments: Any) -> Any:
        examined.append(1)
        if len(examined) == 6:
            raise KeyboardInterrupt
        return Examined({"id": "", "text": "", "reason": "no_text"}, None) if len(examined) < 5 else real(*arguments)

    real = ingest.examine
    monkeypatch.setattr(ingest, "examine", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(config_of(corpus, tmp_path / "work"))
    assert sorted(everything(tmp_path / "work")) == ["prepare/mine/000.jsonl", "prepare/mine/job.json"]


@pytest.mark.processes
def test_two_processes_make_the_same_shards(corpus: Path, whole: Path, tmp_path: Path) -> None:
    prepare(config_of(corpus, tmp_path / "work", num_workers=2))
    assert everything(tmp_path / "work") == everything(whole)


@pytest.mark.processes
def test_a_dead_worker_is_told(corpus: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(VoicegraftError, match=r"a worker process died.*--workers 1"),
        ingest._examiner(2) as examine_all,
    ):
        # A rate that the workers cannot be sent whole: unpickling it ends the process.
        list(examine_all([(Record("a", Path("a"), "a"), Path("a"), Deadly(), RATE, LIMITS)]))  # type: ignore[list-item]


class Deadly:
    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (1,)


def test_memory_does_not_grow_with_the_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more records than a shard's are waiting at any time."""
    listed, examined, waiting = [0], [0], [0]

    class Endless:
        name, location, layout = "long", "long", "pairs"

        def records(self) -> Iterator[Record]:
            listed[0] = 0
            for number in range(500):
                listed[0] += 1
                yield Record(f"{number}", Path("none.wav"), "Hello.")

    def examine(record: Record, *_: Any) -> Examined:
        examined[0] += 1
        waiting[0] = max(waiting[0], listed[0] - examined[0])
        return Examined({"id": record.id, "text": "", "reason": "audio_missing"}, None)

    monkeypatch.setattr(ingest, "examine", examine)
    source: Any = Endless()
    job = ingest.Ingest(source, tmp_path, "long", RATE, LIMITS, None, 10)
    ingest.write_shards(job, ingest.survey(source, Splits(0.1)), 1)
    assert examined[0] == 500 and waiting[0] < 10


def refused(config: PrepareConfig) -> str:
    with pytest.raises(VoicegraftError) as error:
        prepare(config)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_other_options_or_another_corpus_are_refused(corpus: Path, whole: Path, tmp_path: Path) -> None:
    before = everything(whole)
    config = config_of(corpus, whole)
    told = refused(replace(config, sample_rate=16_000, limits=replace(LIMITS, min_sec=0.7)))
    assert (
        "mine in" in told and "rate was 24000, now 16000; limits min_sec was 0.5, now 0.7" in told and "delete" in told
    )
    assert "speaker was None, now 'ann'" in refused(replace(config, speaker="ann"))
    other = layouts.pairs(tmp_path / "other")
    assert "the corpus itself changed; records was 9, now 6" in refused(config_of(other, whole))
    assert "holds mine at 24000 Hz and cannot take other" in refused(
        config_of(other, whole, name="other", sample_rate=16_000)
    )
    assert everything(whole) == before
    (tmp_path / "work" / "speech" / "mine-000").mkdir(parents=True)
    assert "is there but not how it was made" in refused(config_of(other, tmp_path / "work"))


def test_a_changed_file_is_another_corpus(tmp_path: Path) -> None:
    root = layouts.pairs(tmp_path / "c", SPOKEN[:3])
    prepare(config_of(root, tmp_path / "work"))
    prepare(config_of(root.rename(tmp_path / "moved"), tmp_path / "work"))  # a moved one is the same
    layouts.audio(tmp_path / "moved" / "11", replace(SPOKEN[0], seconds=1.2))
    assert "the corpus itself changed" in refused(config_of(tmp_path / "moved", tmp_path / "work"))


def test_two_corpora_share_a_work_folder_and_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = layouts.pairs(tmp_path / "one"), layouts.ljspeech(tmp_path / "two")
    prepare(config_of(one, tmp_path / "work", corpora=(str(one), str(two)), name=None))
    assert PreparedSpeech(tmp_path / "work").speakers == ["11", "12", "two"]
    assert PreparedSpeech(tmp_path / "work", ["two"]).speakers == ["two"]
    report = (tmp_path / "work" / "prepare" / "report.md").read_text()
    assert "| one | pairs |" in report and "| two | ljspeech |" in report and "Nothing." in report
    same = layouts.pairs(tmp_path / "deep" / "one")
    assert "would be called the same" in refused(
        config_of(one, tmp_path / "w2", corpora=(str(one), str(same)), name=None)
    )


def test_recordings_and_shards_do_not_share_a_folder(corpus: Path) -> None:
    before = everything(corpus)
    for out in (corpus, corpus / "11"):
        assert "lies among the recordings" in refused(config_of(corpus, out))
    assert everything(corpus) == before


def test_nothing_to_keep_is_an_error_that_names_the_reason(tmp_path: Path) -> None:
    root = layouts.pairs(tmp_path / "c", SPOKEN[:3])
    for path in (root / "11").glob("*.txt"):
        path.write_text("")
    told = refused(config_of(root, tmp_path / "work"))
    assert "nothing of mine can be used: 3 of 3 recordings were rejected because the text is missing or empty" in told
    assert len((tmp_path / "work" / "quarantine.jsonl").read_text().splitlines()) == 3
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "manifest.jsonl").write_text("")
    assert "holds no recordings (read as jsonl)" in refused(
        config_of(tmp_path / "empty", tmp_path / "w", layout="jsonl")
    )


def test_the_same_words_are_on_one_side_and_some_are_held_back(tmp_path: Path) -> None:
    rows = []
    for number in range(60):
        clip = Spoken(f"{number}", f"Owl {'abcdefghij'[number % 10] * 4} sees {'klm'[number // 20] * 2}.", "ann", 0.6)
        layouts.audio(tmp_path / "c", clip)
        text = clip.text.upper() if number % 2 else clip.text
        rows += [{"audio": f"{number}.wav", "text": text, "id": f"{n}-{number}"} for n in range(2)]
    (tmp_path / "c" / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")

    def splits(share: float, work: str) -> dict[str, set[str]]:
        prepare(config_of(tmp_path / "c", tmp_path / work, val_share=share, shard_size=100))
        found: dict[str, set[str]] = {}
        for folder in shard_folders(tmp_path / work):
            for row in read_manifest(folder):
                found.setdefault(row.text.lower(), set()).add(row.split)
        return found

    few = splits(1e-6, "few")
    assert all(len(sides) == 1 for sides in few.values())
    assert sum(sides == {"val"} for sides in few.values()) == 3  # a tenth of 30 texts at least
    assert 5 <= sum(sides == {"val"} for sides in splits(0.4, "many").values()) <= 20
    assert all(sides == {"train"} for sides in splits(0.0, "none").values())


def test_splits_of_the_corpus_are_kept(tmp_path: Path) -> None:
    root = layouts.manifest(tmp_path / "c")
    rows = [json.loads(line) for line in (root / "manifest.jsonl").read_text().splitlines()]
    rows[0]["split"], rows[1]["split"] = "dev", "test"
    (root / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    prepare(config_of(root, tmp_path / "work", val_share=0.9))
    splits = [row.split for folder in shard_folders(tmp_path / "work") for row in read_manifest(folder)]
    assert splits == ["val", "test", *["train"] * 4]


def test_features_can_be_added_later(corpus: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    prepare(config_of(corpus, work))
    with pytest.raises(VoicegraftError, match="--features"):
        speech = PreparedSpeech(work)
        speech.array(speech.clips[0], "pitch")
    audio = content(work)
    prepare(config_of(corpus, work, features=True))
    speech = PreparedSpeech(work)
    for clip in speech.clips:
        num_samples = len(speech.samples(clip))
        assert len(speech.array(clip, "mel")) == num_samples // 240
        assert len(speech.array(clip, "pitch")) == num_samples // 480
    assert content(work) == audio


def test_without_matplotlib_the_report_says_what_to_install(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    prepare(config_of(corpus, tmp_path / "work"))
    report = (tmp_path / "work" / "prepare" / "report.md").read_text()
    assert "No picture: plots need matplotlib: pip install voicegraft[evaluate]" in report
    assert not (tmp_path / "work" / "prepare" / "clips.svg").exists()


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = layouts.pairs(tmp_path / "my voice", SPOKEN)
    out = tmp_path / "work"
    recipe.main([str(corpus), "--out", str(out), "--workers", "1", "--rate", "16000", "--speaker", "me"])
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("my-voice: 6 of 6 recordings kept") and told[1].startswith("report: ")
    assert PreparedSpeech(out).speakers == ["me"] and (out / "speech" / "my-voice-000").is_dir()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--rate", "22051"], "a --rate in Hz that is a multiple of 50, got 22051"),
        (["--rate", "22050", "--features"], "--features needs a --rate that is a multiple of 100, got 22050"),
        (["--val-share", "1"], "a --val-share from 0 to less than 1, got 1"),
        (["--workers", "0"], "--workers of at least 1"),
        (["more", "--name", "x"], "--name is for one corpus"),
        (["--name", "//"], "cannot name shards '//'"),
        (["--min-sec", "9", "--max-sec", "4"], "a least and a greatest number of seconds, got 9 and 4"),
        (["--layout", "csv"], "expected metadata.csv or one .csv or .tsv file"),
    ],
)
def test_mistakes_on_the_command_line_are_told(arguments: list[str], told: str, tmp_path: Path) -> None:
    corpus = layouts.pairs(tmp_path / "c", SPOKEN[:1])
    with pytest.raises(VoicegraftError) as error:
        recipe.main([str(corpus), *arguments, "--out", str(tmp_path / "work")])
    assert told in str(error.value) and not (tmp_path / "work").exists()
