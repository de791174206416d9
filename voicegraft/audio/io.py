"""Audio files: read as mono at the rate you need, written whole or as they come."""

import io
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from voicegraft.core.errors import VoicegraftError
from voicegraft.core.messages import Waveform

# suffix -> libsndfile's container and encoding
_FORMATS = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}
_RATES = {  # Hz, of formats that have few. Source: RFC 6716, section 2; ISO 11172-3 and 13818-3
    ".opus": (8_000, 12_000, 16_000, 24_000, 48_000),
    ".mp3": (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000),
}
_STREAMED = 0x7FFFF000  # bytes from which on a header means that it does not know
_UNKNOWN = 0xFFFFFFFF  # bytes: what the header of a WAV says that is written into a pipe
SUFFIXES = (".wav", ".flac", ".opus", ".ogg", ".mp3")  # of the audio files that are looked for in folders
_CUT_SHORT = "not all samples could be written; is the disk full?"


def read_audio(path: Path | str, sample_rate: int) -> Waveform:
    """Reads any file that libsndfile knows, mixes it down to mono and resamples it.

    Args:
        sample_rate: Hz of the result, whatever the file's own rate.

    Raises:
        VoicegraftError: the file is missing, is not audio, is empty or holds numbers that are not finite.
    """
    path = Path(path)
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing"
        raise VoicegraftError(f"expected an audio file at {path}, found {found}")
    with open_audio(path, str(path)) as file:
        return to_mono(read_frames(file, str(path)), file.samplerate, sample_rate)


def declared_frames(audio: Path | bytes) -> int | None:
    """How many samples a channel the header of a WAV promises; None of other files, and where it says that it does not know.

    libsndfile tells what is there, not what was promised.
    """
    with io.BytesIO(audio) if isinstance(audio, bytes) else audio.open("rb") as file:
        kind, _, form = struct.unpack("<4sI4s", file.read(12).ljust(12, b"\0"))
        if kind != b"RIFF" or form != b"WAVE":
            return None
        width = 0
        while len(head := file.read(8)) == 8:
            name, size = struct.unpack("<4sI", head)
            if name == b"data":
                return size // width if width and size < _STREAMED else None
            if name == b"fmt ":
                width = struct.unpack("<H", file.read(16).ljust(16, b"\0")[12:14])[0]
                size -= min(size, 16)
            file.seek(size + size % 2, io.SEEK_CUR)
    return None


@contextmanager
def open_audio(audio: Path | bytes, name: str) -> Iterator[soundfile.SoundFile]:
    """An audio file, or the bytes of one, open for `read_frames`; `name` stands in errors.

    Raises:
        VoicegraftError: it is not audio, also where reading finds that out.
    """
    try:
        if not isinstance(audio, bytes):
            audio.open("rb").close()  # tells why a file cannot be opened; libsndfile only says "System error."
        with soundfile.SoundFile(io.BytesIO(audio) if isinstance(audio, bytes) else audio) as file:
            yield file
    except (OSError, UnicodeError, soundfile.LibsndfileError) as error:  # UnicodeError: a name that is not UTF-8
        raise VoicegraftError(f"cannot read {name} as audio: {_reason(error)}") from error


def read_frames(
    file: soundfile.SoundFile, name: str, start_sec: float = 0.0, duration_sec: float | None = None
) -> npt.NDArray[np.float32]:
    """A stretch of an open file `[T, channels]` at the file's own rate; without a duration, to the end.

    Raises:
        VoicegraftError: there is nothing in it, or numbers that are not finite.
    """
    if start_sec:
        file.seek(min(round(start_sec * file.samplerate), file.frames))
    wanted = -1 if duration_sec is None else round(duration_sec * file.samplerate)
    frames: npt.NDArray[np.float32] = file.read(wanted, dtype="float32", always_2d=True)
    if len(frames) == 0:
        raise VoicegraftError(f"{name} holds no audio (0 samples)")
    if not np.isfinite(frames).all():
        raise VoicegraftError(f"{name} holds samples that are not numbers; re-encode or drop it")
    return frames


def to_mono(frames: npt.NDArray[np.float32], file_rate: int, sample_rate: int) -> Waveform:
    """Frames `[T, channels]` at `file_rate` Hz, mixed down and resampled to `sample_rate` Hz."""
    samples = resampled(frames.mean(axis=1, dtype=np.float32), file_rate, sample_rate)
    # Resampling and lossy decoders overshoot full scale a little.
    return Waveform(np.clip(samples, -1.0, 1.0).astype(np.float32, copy=False), sample_rate)


def resampled(samples: npt.NDArray[Any], rate: int, wanted_rate: int) -> npt.NDArray[np.float32]:
    """Samples ``[T]`` at ``rate`` Hz -> the same sound at ``wanted_rate`` Hz, as an array of its own."""
    floats = np.ascontiguousarray(samples, np.float32)
    return floats if rate == wanted_rate else soxr.resample(floats, rate, wanted_rate)


def write_audio(path: Path | str, samples: npt.NDArray[np.float32], sample_rate: int) -> None:
    """Writes samples `[T]` in [-1, 1]; see `AudioWriter` for formats and errors."""
    with AudioWriter(path, sample_rate) as writer:
        writer.write(samples)


def encode_flac(samples: npt.NDArray[np.float32], sample_rate: int) -> bytes:
    """Samples `[T]` in [-1, 1] as a FLAC file (16 bit) in memory, say for a page; what is beyond is clipped."""
    file = io.BytesIO()
    soundfile.write(file, np.clip(samples, -1.0, 1.0), sample_rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()


class AudioWriter:
    """Writes a file while it is being made, in constant memory.

    The suffix picks the format: `.wav` and `.flac` (16 bit), `.opus` (Ogg), `.mp3`. The file takes its name when the
    `with` block ends well; if it does not, nothing is left and a file of that name stays as it was.

    Raises:
        VoicegraftError: unknown suffix, a rate that the format lacks, a place that cannot be written, a full
            disk, samples that are not finite, or none at all.
    """

    def __init__(self, path: Path | str, sample_rate: int, comment: str = "") -> None:
        self.path = Path(path)
        self.sample_rate = sample_rate  # Hz
        self.comment = comment  # kept in the file, where programs show it
        suffix = self.path.suffix.lower()
        if suffix not in _FORMATS:
            raise VoicegraftError(f"expected a file that ends in {', '.join(_FORMATS)}, got {self.path.name!r}")
        if sample_rate not in _RATES.get(suffix, (sample_rate,)):
            rates = ", ".join(map(str, _RATES[suffix]))
            raise VoicegraftError(f"{suffix} knows the rates {rates} Hz, not {sample_rate}; use .wav or .flac")
        if _FORMATS[suffix][0] not in soundfile.available_formats():
            raise VoicegraftError(
                f"libsndfile {soundfile.__libsndfile_version__} cannot write {suffix}: upgrade soundfile, or use .wav or .flac"
            )
        if self.path.is_dir():
            raise VoicegraftError(f"expected a file name to write, {self.path} is a folder")
        self._format, self._subtype = _FORMATS[suffix]
        # The process id keeps two processes that write the same name from spoiling each other's bytes.
        self._partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")
        self._file: soundfile.SoundFile | None = None
        self._num_samples = 0

    def __enter__(self) -> "AudioWriter":
        self._file = self._guarded(self._open)
        return self

    def write(self, chunk: npt.NDArray[np.float32]) -> None:
        """Appends samples `[T]` in [-1, 1]; what is beyond is clipped."""
        if self._file is None:
            raise RuntimeError("AudioWriter.write outside of its with block")
        if chunk.ndim != 1:
            raise ValueError(f"expected samples [T], got shape {chunk.shape}")
        if not np.isfinite(chunk).all():
            raise VoicegraftError(f"cannot write {self.path}: the audio holds samples that are not numbers")
        file = self._file
        self._guarded(lambda: file.write(np.clip(chunk, -1.0, 1.0)))
        self._num_samples += len(chunk)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        file, self._file = self._file, None
        try:
            if file is not None:
                self._guarded(file.close)
            if kind is None:
                self._guarded(self._publish)
        finally:
            self._partial.unlink(missing_ok=True)

    def _open(self) -> soundfile.SoundFile:
        self._partial.touch()  # tells why a place cannot be written; libsndfile only says "System error."
        file = soundfile.SoundFile(
            self._partial, "w", self.sample_rate, channels=1, subtype=self._subtype, format=self._format
        )
        if self.comment:  # libsndfile's MP3 tags are Latin-1, whatever they hold
            plain = self.comment.encode("ascii", "replace").decode()
            file.comment = plain if self._format == "MP3" else self.comment
        return file

    def _publish(self) -> None:
        if self._num_samples == 0:
            raise OSError("there is no audio to write (0 samples)")
        # libsndfile swallows what goes wrong while closing, so look whether everything arrived.
        if soundfile.info(self._partial).frames < self._num_samples:
            raise OSError(_CUT_SHORT)
        os.replace(self._partial, self.path)

    def _guarded(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        # soundfile asserts that the number of samples it handed over were written.
        except (OSError, soundfile.LibsndfileError, AssertionError) as error:
            # What libsndfile itself reports while writing is an opaque "System error." or worse.
            reason = _reason(error) if isinstance(error, OSError) else _CUT_SHORT
            raise VoicegraftError(f"cannot write {self.path}: {reason}") from error


class WavPipe:
    """Writes a WAV of 16 bits into a file that cannot be rewound, as it comes; the header says that its length is unknown.

    Raises:
        VoicegraftError: samples that are not finite.
        OSError: what the file raises.
    """

    def __init__(self, file: IO[bytes], sample_rate: int) -> None:
        self._file, self._sample_rate = file, sample_rate

    def __enter__(self) -> "WavPipe":
        form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, self._sample_rate, 2 * self._sample_rate, 2, 16)
        self._file.write(b"RIFF" + struct.pack("<I", _UNKNOWN) + b"WAVE" + form + b"data" + struct.pack("<I", _UNKNOWN))
        return self

    def write(self, chunk: npt.NDArray[np.float32]) -> None:
        """Appends samples `[T]` in [-1, 1]; what is beyond is clipped."""
        if not np.isfinite(chunk).all():
            raise VoicegraftError("cannot write the audio: it holds samples that are not numbers")
        self._file.write(np.round(np.clip(chunk, -1.0, 1.0) * 32767).astype("<i2").tobytes())
        self._file.flush()

    def __exit__(self, *_: object) -> None:
        return None


def _reason(error: Exception) -> str:
    if isinstance(error, soundfile.LibsndfileError):
        return str(error.error_string)
    return str(getattr(error, "strerror", None) or error)
