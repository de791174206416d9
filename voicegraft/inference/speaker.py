"""The speaking API: ``Speaker.load(pack).stream(text)`` yields sound as it is made; ``say(text)`` drains that stream.

``write(question)`` yields the text of an answer, ``ask(question)`` its sound while it is being written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from voicegraft.acoustic.voice_encoder import VoiceEncoder
from voicegraft.audio.chunks import Seams
from voicegraft.audio.io import resampled
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.hub import Loadable, opened
from voicegraft.core.messages import Question
from voicegraft.core.runtime import OnThreads, pick_device, random_numbers
from voicegraft.fusion.backbone import BackboneSettings
from voicegraft.guard.guarded import GuardedTokens
from voicegraft.inference.engine import SentenceTokens, sentence_tokens
from voicegraft.inference.pack import SHARED, Pack, open_pack, pack_folder
from voicegraft.inference.report import SpeechReport, SpokenSentence, spoken_words
from voicegraft.inference.sentence import SpeakOptions
from voicegraft.inference.speech import AnswerStream, Speech, SpeechStream
from voicegraft.inference.stream import acoustic_frames, render
from voicegraft.inference.voice import Voice, voice_like
from voicegraft.inference.writer import Writer, Writing, WritingOptions
from voicegraft.text.spoken_form import SpokenForm
from voicegraft.tokenizers.base import AcousticCodec, SemanticEncoder
from voicegraft.tokenizers.loading import open_codec, open_semantic

ONE_THREAD_BELOW = 50e6  # parameters of a model that loses more by waking threads than it gains
SENTENCE_PAUSE_SEC = 0.25  # between sentences, on top of the silence that the model speaks
CLAUSE_ENDS = (",", ";", ":")  # of what was cut off a sentence: no pause follows


@dataclass(frozen=True)
class _Callbacks:
    """Who is told what becomes of a text."""

    report: SpeechReport
    on_sentence: Callable[[str], object] | None
    on_spoken: Callable[[SpokenSentence], object] | None


# What says a piece of a sentence, what watches it, and where it starts, in seconds.
_Part = tuple[SentenceTokens, GuardedTokens | None, float]


class Speaker(Loadable):
    def __init__(self, pack: Pack, device: torch.device, num_threads: int | None = None):
        self.pack = pack
        self.device = device
        small = sum(p.numel() for p in pack.lm.inner.parameters()) < ONE_THREAD_BELOW
        self.num_threads = 1 if num_threads is None and small else num_threads
        self.writer = Writer(pack.lm, num_threads)
        for model in (pack.lm, pack.acoustic, pack.vocoder):
            cast(nn.Module, model).to(device)
        _ = pack.lm.decoder  # copies weights: now, and not while the first sentence is awaited

    @staticmethod
    def load(
        pack: Path | str | None = None,
        backbone: Path | str | None = None,
        device: str = "cpu",
        text_expert: Path | str | None = None,
        settings: BackboneSettings | None = None,
        num_threads: int | None = None,
    ) -> Speaker:
        """Loads a pack folder, or the one that ships with the package. ``from_pretrained`` takes a name on the Hub too.

        Args:
            pack: a folder, hub:NAME[@REVISION], or the name of a pack that comes with the package.
            backbone: folder or Hub name of the text LLM, for a pack that does not hold or name it.
            text_expert: PEFT's adapter folder, or hub:NAME, that writes; None is the identity, the untouched backbone.
            settings: how the backbone is held in memory.
            num_threads: that PyTorch computes on while it makes speech or text, and at no other time: the program's own number
                stays what it is. None: one for a small model (``ONE_THREAD_BELOW``), which is fastest, else PyTorch's number.

        Raises:
            VoicegraftError: not a pack, damaged, or parts that do not fit.
        """
        folder = pack_folder(pack)
        writes = opened(text_expert) if text_expert else None
        return Speaker(open_pack(folder, backbone or None, writes, settings), pick_device(device), num_threads)

    @property
    def voices(self) -> list[str]:
        return list(self.pack.acoustic.config.voices)

    @property
    def sample_rate(self) -> int:
        return self.pack.vocoder.sample_rate

    @property
    def default_voice(self) -> str:
        return self.pack.header.default_voice or self.voices[0]

    def voice(self, voice: str | Voice | None) -> Voice:
        """The voice of that name, or the default one; a ``Voice`` is what it is.

        Raises:
            VoicegraftError: the pack has no such voice.
        """
        if isinstance(voice, Voice):
            return voice
        chosen = voice or self.default_voice
        if chosen not in self.voices:
            raise VoicegraftError(f"no voice {chosen!r}; this pack speaks as: {', '.join(self.voices)}")
        return Voice(chosen, self.pack.acoustic.named_voice(chosen))

    def voice_like(self, recording: Path | str) -> Voice:
        """The voice of a person in a recording of some seconds. Ask that person first.

        Raises:
            VoicegraftError: the pack cannot do that, or the recording cannot be read or is too short.
        """
        folder = self.pack.part("voice")
        if not folder.is_dir():
            raise VoicegraftError(f"{self.pack.folder} has no voice encoder, so it speaks in its own voices alone")
        return voice_like(self.pack.acoustic, VoiceEncoder.load(folder), Path(recording))

    @property
    def fingerprint(self) -> str:
        """Over the weights of all parts that speak."""
        digest = hashlib.sha256()
        folders = [self.pack.folder, *(self.pack.part(name) for name in SHARED if self.pack.header.shares)]
        for file in sorted({file for folder in folders for file in folder.rglob("*.safetensors")}):
            digest.update(file.read_bytes())
        return digest.hexdigest()[:16]

    def stream(
        self,
        text: str | Iterable[str],
        voice: str | Voice | None = None,
        seed: int = 0,
        options: SpeakOptions | None = None,
        on_sentence: Callable[[str], object] | None = None,
        on_spoken: Callable[[SpokenSentence], object] | None = None,
    ) -> SpeechStream:
        """Speaks a text of any length in constant memory: neither audio nor text is kept.

        Args:
            text: the text, or pieces of it as they arrive.
            voice: one of ``voices``, or what ``voice_like`` gives.
            seed: the same text, voice and seed give the same samples on the same machine.
            on_sentence: called with each sentence when it begins ...
            on_spoken: ... and with what became of it when it has been said.
        """
        chosen = self.voice(voice)
        callbacks = _Callbacks(SpeechReport(), on_sentence, on_spoken)
        chunks = self._chunks([text] if isinstance(text, str) else text, chosen, seed, options, callbacks)
        return SpeechStream(chunks, callbacks.report, self.sample_rate, chosen.comment)

    def say(
        self, text: str, voice: str | Voice | None = None, seed: int = 0, options: SpeakOptions | None = None
    ) -> Speech:
        """The whole of ``stream(text)`` at once."""
        sentences: list[SpokenSentence] = []
        stream = self.stream(text, voice, seed, options, on_spoken=sentences.append)
        pieces = list(stream)
        samples = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
        return Speech(samples, self.sample_rate, tuple(sentences), stream.report)

    def write(self, question: Question, seed: int = 0, options: WritingOptions | None = None) -> Writing:
        """Answers in writing, piece by piece.

        Args:
            question: one question, or a conversation that ends with one, as ``Message``s.
            seed: of sampled writing; greedy writing, the default, needs none.

        Raises:
            VoicegraftError: nothing was asked, or more than the backbone's context holds.
        """
        return self.writer.start(question, options, seed)

    def ask(
        self,
        question: Question,
        voice: str | Voice | None = None,
        seed: int = 0,
        options: SpeakOptions | None = None,
        writing: WritingOptions | None = None,
        on_text: Callable[[str], object] | None = None,
        on_sentence: Callable[[str], object] | None = None,
        on_spoken: Callable[[SpokenSentence], object] | None = None,
    ) -> AnswerStream:
        """Answers in writing and speaks it, sentence by sentence: what comes after a sentence is written once it is said.

        The first clause of a long first sentence is spoken while the rest of it is written.

        Args:
            on_text: called with each piece of text when it is written; the others are those of ``write`` and ``stream``.

        Raises:
            VoicegraftError: no such voice, nothing was asked, or more than the backbone's context holds.
        """
        chosen = self.voice(voice)
        answer = self.write(question, seed, writing)

        def pieces() -> Iterator[str]:
            for piece in answer:
                if on_text is not None:
                    on_text(piece)
                yield piece

        callbacks = _Callbacks(SpeechReport(), on_sentence, on_spoken)
        chunks = self._chunks(pieces(), chosen, seed, options, callbacks, hurry=True)
        return AnswerStream(chunks, callbacks.report, self.sample_rate, chosen.comment, answer)

    def resynthesize_semantic(self, samples: np.ndarray, voice: str | Voice | None = None, seed: int = 0) -> np.ndarray:
        """Recorded samples ``[T]`` -> their semantic tokens -> sound in the voice: what the tokens keep."""
        at_rate = resampled(samples, self.sample_rate, self._semantic.spec.sample_rate)
        codes = self._semantic.encode(torch.from_numpy(at_rate)[None])[0, 0].tolist()
        return self._sound(codes, self.voice(voice), random_numbers(seed), self.pack.header.options)

    def resynthesize_codec(self, samples: np.ndarray) -> np.ndarray:
        """Recorded samples ``[T]`` -> their acoustic codes -> sound: what codec and vocoder keep."""
        with torch.inference_mode():
            at_rate = resampled(samples, self.sample_rate, self._codec.spec.sample_rate)
            codes = self._codec.encode(torch.from_numpy(at_rate)[None])[0]  # [K, T]
            entries = (F.embedding(row, book) for row, book in zip(codes, self._codec.codebooks, strict=True))
            latents = torch.stack(list(entries)).sum(0).mT[None].to(self.device)
            samples_made, state = self.pack.vocoder.step(latents, self.pack.vocoder.start())
            return torch.cat([samples_made, self.pack.vocoder.finish(state)], -1)[0].float().cpu().numpy()

    @cached_property
    def _semantic(self) -> SemanticEncoder:
        return open_semantic(self.pack.part("semantic"))

    @cached_property
    def _codec(self) -> AcousticCodec:
        return open_codec(self.pack.part("codec"))

    def _chunks(
        self,
        pieces: Iterable[str],
        voice: Voice,
        seed: int,
        options: SpeakOptions | None,
        callbacks: _Callbacks,
        hurry: bool = False,
    ) -> Iterator[np.ndarray]:
        options = options or self.pack.header.options
        # Drawn from apart, so that how far the guard looks ahead does not change the sound.
        random, fine = random_numbers(seed), np.random.default_rng(seed + 1)
        num_samples = 0

        def sentences() -> Iterator[tuple[Iterable[np.ndarray], float]]:
            begun, pause_sec, goes_on = False, 0.0, False
            for form in self.pack.frontend.sentences(pieces, hurry):
                callbacks.report.leave_out(form.skipped)
                if not form.parts:
                    continue
                if callbacks.on_sentence is not None:
                    callbacks.on_sentence(form.written)
                parts: list[_Part] = []
                for part in form.parts:
                    if begun:
                        yield [], pause_sec + (0.0 if goes_on else SENTENCE_PAUSE_SEC)
                    begun, pause_sec, goes_on = True, part.pause_sec, part.text.endswith(CLAUSE_ENDS)
                    tokens = sentence_tokens(
                        self.pack.lm, part.text, voice.name, options, random, pronunciations=part.pronunciations
                    )
                    guarded = self._guarded(tokens)
                    parts.append((tokens, guarded, num_samples / self.sample_rate))
                    yield self._render(guarded or tokens, voice, fine, options), 0.0
                spoken = self._spoken(form, parts, num_samples / self.sample_rate)
                callbacks.report.add(spoken)
                if callbacks.on_spoken is not None:
                    callbacks.on_spoken(spoken)
            if not begun:
                callbacks.report.status = "empty"
            elif pause_sec:
                yield [], pause_sec  # asked for at the end

        def chunks() -> Iterator[np.ndarray]:
            nonlocal num_samples
            for chunk in Seams(self.sample_rate).join(sentences()):
                num_samples += len(chunk)
                yield chunk

        return OnThreads(self.num_threads, chunks())

    def _guarded(self, tokens: SentenceTokens) -> GuardedTokens | None:
        monitor, policy = self.pack.monitor, tokens.machine.options.guard
        if monitor is None or policy.mode == "off" or self.pack.lm.speech_embedding.config.layout != "guided":
            return None  # without a pronunciation there is nothing to watch it by
        return GuardedTokens(tokens, monitor, tokens.machine.voice, policy)

    def _spoken(self, form: SpokenForm, parts: list[_Part], end_sec: float) -> SpokenSentence:
        guards = [guarded for _, guarded, _ in parts if guarded is not None]
        failed = any(guarded.failed for guarded in guards)
        said = [
            (t.machine.sentence.text, guarded.spoken if guarded else t.spoken, start) for t, guarded, start in parts
        ]
        spans = [span for part in form.parts for span in part.spans]
        return SpokenSentence(
            form.written,
            form.text,
            parts[0][2],
            end_sec,
            spoken_words(spans, said, self.pack.token_sec),
            "failed" if failed else "cut" if any(tokens.machine.cut for tokens, _, _ in parts) else "ok",
            tuple(fault for guarded in guards for fault in guarded.faults),
            tuple(fault for guarded in guards for fault in guarded.unmended),
            sum(guarded.num_retries for guarded in guards),
        )

    def _render(
        self, tokens: Iterable[int], voice: Voice, random: np.random.Generator, options: SpeakOptions
    ) -> Iterator[np.ndarray]:
        frames = acoustic_frames(self.pack.acoustic, tokens, voice.vector, options, random)
        return render(self.pack.vocoder, frames, options.first_chunk_frames, options.chunk_frames)

    def _sound(self, tokens: list[int], voice: Voice, random: np.random.Generator, options: SpeakOptions) -> np.ndarray:
        pieces = list(self._render(tokens, voice, random, replace(options, first_chunk_frames=50, chunk_frames=50)))
        return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
