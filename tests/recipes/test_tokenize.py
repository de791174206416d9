"""Tokens are the same whoever makes them, in one process, several or on Ray, and whoever is killed meanwhile."""

import io
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.harness import table
from benchmarks.tokenizing import BenchTokenizeConfig, bench
from tests import tiny, tokenizing, working
from voicegraft.audio.io import resampled
from voicegraft.core.errors import VoicegraftError
from voicegraft.data.manifest import read_manifest, write_manifest
from voicegraft.data.shards import RaggedArray, write_ragged
from voicegraft.recipes.tokenize import TokenizeConfig, open_tokenizer, shard_names, tokenize, tokenize_shard
from voicegraft.recipes.tokenize_processes import in_processes
from voicegraft.recipes.tokenize_ray import in_ray, ray_session
from voicegraft.tokenizers.codec import Codec
from voicegraft.tokenizers.semantic import SemanticTokenizer

ROOT = Path(__file__).resolve().parents[2]
RATES = (8_000, 16_000, 22_050, 44_100, 48_000)  # Hz


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder with tokenizers, three shards that have mels, and one at each of other rates that have none."""
    work = tmp_path_factory.mktemp("made")
    tiny.write_made_up_speech(work)
    tiny.write_parts(work)
    for rate in RATES:
        random = np.random.default_rng(rate)
        clips = [random.normal(0, 3000, random.integers(rate // 4, rate)).astype(np.int16) for _ in range(4)]
        write_ragged(work / "speech" / f"far-{rate}" / "audio", clips, "int16", key=f"pcm-{rate}")
        write_manifest(work / "speech" / f"far-{rate}", read_manifest(work / "speech" / "ann"))
    return work


@pytest.fixture
def work(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path, ignore=shutil.ignore_patterns("tokens"), dirs_exist_ok=True)
    return tmp_path


@pytest.fixture(scope="module")
def expected(made: Path) -> dict[str, bytes]:
    tokenize(TokenizeConfig(str(made), device="cpu"))
    return token_files(made)


@pytest.fixture(scope="module")
def ray() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))  # its workers import the tests' tokenizers
        patch.setenv("RAY_worker_niceness", "0")  # Ray's 15 starves them where other tests run
        with ray_session(num_cpus=2):
            yield


def token_files(work: Path) -> dict[str, bytes]:
    files = (path for path in (work / "tokens").rglob("*") if path.is_file())
    return {str(path.relative_to(work)): path.read_bytes() for path in files}


@pytest.mark.processes
def test_several_processes_of_which_one_is_killed_make_the_same_shards(work: Path, expected: dict[str, bytes]) -> None:
    (work / "mortal").touch()
    tokenize(TokenizeConfig(str(work), device="cpu", workers=2), tokenizing.mortal)
    assert not (work / "mortal").exists(), "nobody was killed"
    assert token_files(work) == expected


@pytest.mark.processes
def test_ray_makes_the_same_shards_while_a_worker_is_killed(
    work: Path, expected: dict[str, bytes], ray: None, capfd: pytest.CaptureFixture[str]
) -> None:
    (work / "mortal").touch()
    tokenize(TokenizeConfig(str(work), device="cpu", workers=2, engine="ray"), tokenizing.mortal)
    assert not (work / "mortal").exists(), "nobody was killed"
    assert token_files(work) == expected
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.processes
def test_a_users_mistake_comes_out_of_every_engine_as_it_is(ray: None) -> None:
    for results in (in_processes(working.fail, ["a"], 2), in_ray(working.fail, ["a"], 2, 0.0, "")):
        with pytest.raises(VoicegraftError, match=r"^a is not speech; drop it$"):
            list(results)


def test_processes_that_live_do_all_the_work(tmp_path: Path) -> None:
    names = [str(number) for number in range(9)]
    assert sorted(in_processes(partial(working.sign, tmp_path), names, 1)) == names
    assert len({(tmp_path / name).read_text() for name in names}) == 1


def test_a_shard_that_kills_every_process_is_given_up() -> None:
    with pytest.raises(VoicegraftError, match="killed 3 times while none of a, b got done"):
        list(in_processes(working.die, ["a", "b", "c"], 2))


@pytest.mark.processes
def test_a_shard_that_kills_every_actor_is_given_up(ray: None) -> None:
    with pytest.raises(VoicegraftError, match="3 workers were killed over a: memory may be short"):
        list(in_ray(working.die, ["a"], 1, 0.0, ""))


def test_without_ray_the_extra_is_named(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(VoicegraftError, match=r"pip install voicegraft\[ray\]"):
        tokenize(TokenizeConfig(str(work), device="cpu", engine="ray"))


def test_an_interrupted_run_keeps_whole_shards_and_goes_on(work: Path, expected: dict[str, bytes]) -> None:
    config = TokenizeConfig(str(work), ("codec",), codec_shards=("ann", "ben"), device="cpu")
    tokenize(TokenizeConfig(str(work), ("codec",), codec_shards=("ann",), device="cpu"))
    kept = {path: path.stat().st_mtime_ns for path in (work / "tokens").rglob("*") if path.is_file()}
    with pytest.raises(KeyboardInterrupt):
        tokenize(config, tokenizing.interrupted)
    assert {path: path.stat().st_mtime_ns for path in (work / "tokens").rglob("*") if path.is_file()} == kept
    # What a kill leaves half written is in nobody's way.
    partial = work / "tokens" / "codec" / ".ben.partial"
    partial.mkdir()
    (partial / "values.bin").write_bytes(b"half")
    tokenize(config)
    assert {name: expected[name] for name in token_files(work)} == token_files(work)
    assert sorted(path.name for path in (work / "tokens" / "codec").iterdir()) == ["ann", "ben"]


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = (
        "from tests.working import sleep\nfrom voicegraft.recipes.tokenize_processes import in_processes\n"
        f"if __name__ == '__main__': list(in_processes(sleep, [{str(tmp_path / 'pid')!r}], 1))\n"
    )
    (tmp_path / "parent.py").write_text(script)
    parent = subprocess.Popen([sys.executable, tmp_path / "parent.py"], env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        wait_for(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text() != "")
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    worker = int((tmp_path / "pid").read_text())
    wait_for(lambda: not is_alive(worker))  # fails after a while


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    """A zombie that nobody has reaped yet counts as dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_tokens_of_another_tokenizer_are_neither_kept_nor_replaced(work: Path) -> None:
    config = TokenizeConfig(str(work), ("codec",), codec_shards=("ann",), device="cpu")
    tokenize(config)
    before = token_files(work)
    torch.manual_seed(11)
    other = Codec(tiny.CODEC)
    other.save(work / "codec", {})
    for again in (
        lambda: tokenize(config),
        lambda: tokenize_shard(work, "codec", "ann", Codec.load(work / "codec")),
    ):
        with pytest.raises(VoicegraftError, match=r"holds tokens of tokenizer .* delete .*codec, or use another work"):
            again()
    assert token_files(work) == before


def test_tokens_of_other_speech_are_refused(work: Path) -> None:
    config = TokenizeConfig(str(work), ("codec",), codec_shards=("far-8000",), device="cpu")
    tokenize(config)
    write_ragged(work / "speech" / "far-8000" / "audio", [np.zeros(8000, np.int16)], "int16", key="pcm-8000")
    with pytest.raises(VoicegraftError, match="holds 4 clips, the speech 1: delete it"):
        tokenize(config)


@pytest.mark.parametrize("rate", RATES)
def test_frames_last_as_long_as_the_sound_at_any_rate(made: Path, expected: dict[str, bytes], rate: int) -> None:
    audio = RaggedArray(made / "speech" / f"far-{rate}" / "audio")
    for kind in ("semantic", "codec"):
        tokenizer = open_tokenizer(made, kind, "cpu")
        tokens = RaggedArray(made / "tokens" / kind / f"far-{rate}", key=tokenizer.spec.fingerprint)
        assert (tokens.lengths == audio.lengths * 24_000 // rate // tiny.FRAME).all()
        for clip, codes in zip(audio, tokens, strict=True):
            samples = np.clip(resampled(clip / np.float32(32768), rate, 24_000), -1, 1)
            assert abs(len(samples) - len(clip) * 24_000 / rate) < 1
            again = tokenizer.encode(torch.from_numpy(samples[: len(clip) * 24_000 // rate])[None])[0]
            assert np.array_equal(codes, again.T.numpy())


def test_stored_mels_are_read_if_they_are_what_the_tokenizer_reads(work: Path, expected: dict[str, bytes]) -> None:
    tokenizer = SemanticTokenizer.load(work / "semantic")
    for clip, mel in enumerate(RaggedArray(work / "speech" / "ann" / "mel")):
        codes = tokenizer.encode_mel(torch.from_numpy(mel.astype(np.float32).T)[None])[0].T
        assert np.array_equal(tokens_of(expected, "ann", clip), codes[:, 0])
    silence = [np.zeros((100, 20), np.float16)] * 4
    write_ragged(work / "speech" / "ann" / "mel", silence, "float16", key="mel-of-another-kind")
    tokenize_shard(work, "semantic", "ann", tokenizer)
    audio = RaggedArray(work / "speech" / "ann" / "audio")
    from_samples = tokenizer.encode(torch.from_numpy(audio[0] / np.float32(32768))[None])[0].T
    assert np.array_equal(RaggedArray(work / "tokens" / "semantic" / "ann")[0], from_samples)


def tokens_of(files: dict[str, bytes], shard: str, clip: int) -> np.ndarray:
    offsets = np.load(io.BytesIO(files[f"tokens/semantic/{shard}/offsets.npy"]))
    return np.frombuffer(files[f"tokens/semantic/{shard}/values.bin"], np.int16)[offsets[clip] : offsets[clip + 1]]


def test_large_vocabularies_and_clips_below_a_frame(work: Path) -> None:
    clips = [np.zeros(1000, np.int16), np.zeros(100, np.int16)]
    write_ragged(work / "speech" / "short" / "audio", clips, "int16", key="pcm-16000")
    tokenize_shard(work, "codec", "short", tokenizing.Wide())
    tokens = RaggedArray(work / "tokens" / "codec" / "short", key="wide")
    assert tokens.lengths.tolist() == [3, 0] and tokens.item_shape == (2,) and (tokens.values == 69_999).all()


def test_the_codec_takes_human_speech_or_what_it_is_told(made: Path, tmp_path: Path) -> None:
    everything = {"ann", "ben", "flite-000", *(f"far-{rate}" for rate in RATES)}
    assert set(shard_names(made, "semantic")) == everything
    assert set(shard_names(made, "codec")) == everything - {"flite-000"}
    assert shard_names(made, "codec", ("flite-", "an")) == ["ann", "flite-000"]
    with pytest.raises(VoicegraftError, match="expected shards of bob"):
        shard_names(made, "codec", ("bob",))
    with pytest.raises(VoicegraftError, match="no prepared speech"):
        shard_names(tmp_path, "semantic")


def test_other_arrays_are_not_taken_for_audio(work: Path) -> None:
    write_ragged(work / "speech" / "ann" / "audio", [np.zeros(10, np.int16)], "int16", key="noise")
    with pytest.raises(VoicegraftError, match=r"expected audio with the key pcm-RATE in .*ann, found 'noise'"):
        tokenize(TokenizeConfig(str(work), device="cpu"))


def test_the_end_is_a_line_with_hours_and_rate(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = TokenizeConfig(str(work), ("codec",), codec_shards=("ann", "ben"), device="cpu")
    tokenize(config)
    assert capsys.readouterr().out.startswith("codec tokens: 0.00 hours in 2 shards, ")
    tokenize(config)
    assert capsys.readouterr().out == "codec tokens: 0.00 hours in 0 shards; 2 shards were there\n"


def test_the_benchmark_measures_a_packs_tokenizers(made: Path) -> None:
    rows = bench(BenchTokenizeConfig(str(made), hubert_layer=0, num_shards=4, shard_sec=0.05))
    assert [row["tokenizer"] for row in rows] == ["pack's semantic", "pack's codec"]
    assert all(row["hours_per_hour"] > 0 and row["ratio"] > 0 and row["audio_hours"] > 0 for row in rows)
    assert len(table(rows).splitlines()) == 1 + len(rows)
