"""What a graft can be told: the parts' own configurations, and the choices that hold for all of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from voicegraft.data.checks import Limits
from voicegraft.inference.sentence import SpeakOptions
from voicegraft.recipes.align import AlignConfig
from voicegraft.recipes.encode import EncodeConfig
from voicegraft.recipes.imitate import ImitateConfig
from voicegraft.recipes.say import SayConfig
from voicegraft.recipes.train_acoustic import TrainAcousticConfig
from voicegraft.recipes.train_codec import TrainCodecConfig
from voicegraft.recipes.train_connector import TrainConnectorConfig
from voicegraft.recipes.train_listening import TrainListeningConfig
from voicegraft.recipes.train_monitor import TrainMonitorConfig
from voicegraft.recipes.train_router import TrainRouterConfig
from voicegraft.recipes.train_speech import TrainSpeechConfig
from voicegraft.recipes.train_vocoder import TrainVocoderConfig


@dataclass(frozen=True)
class CorpusChoice:
    """As in `PrepareConfig`."""

    layout: str | None = None  # of all corpora; null: found out
    audio_root: Path | None = None  # where files that a manifest names may lie
    speaker: str | None = None  # of all recordings; null: as the corpus says, else its name
    sample_rate: int = 24_000  # Hz
    val_share: float = 0.02  # of the texts that are held back
    shard_size: int = 1000  # recordings
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class SemanticChoice:
    encoder: str = ""  # HuBERT, WavLM, w2v-BERT 2.0 or Whisper by folder or Hub name; empty: the teacher's
    layer: int = 0  # of the encoder
    vocab_size: int = 2000  # units of the k-means on that layer
    steps: int = 1000  # of the k-means


@dataclass(frozen=True)
class CodecChoice:
    model: str = ""  # Mimi, DAC or EnCodec by folder or Hub name; empty: the teacher's; train: one of your recordings
    num_codebooks: int | None = None  # of a model that is named; null: all
    codec: TrainCodecConfig = field(default_factory=TrainCodecConfig)  # of your own, for model: train
    vocoder: TrainVocoderConfig = field(default_factory=TrainVocoderConfig)  # of your own, for model: train


@dataclass(frozen=True)
class EvaluateChoice:
    prompts: str = ""  # text file, one per line; empty: texts of recordings that were held back
    limit: int = 20  # prompts


@dataclass(frozen=True)
class ListenChoice:
    """As in the recipes of these names; the connector is the kind that reads."""

    soft: bool = True  # a soft transcript by the recogniser of ``encode``, which learns nothing; false: all of these
    encode: EncodeConfig = field(default_factory=EncodeConfig)
    connector: TrainConnectorConfig = field(default_factory=TrainConnectorConfig)
    imitate: ImitateConfig | None = field(default_factory=ImitateConfig)  # null: no answers of the LLM's own
    train: TrainListeningConfig = field(default_factory=TrainListeningConfig)


@dataclass(frozen=True)
class GraftConfig:
    backbone: str  # folder of a causal LM, or its name on the Hugging Face Hub
    corpora: tuple[str, ...]  # recordings with their texts, in any layout that `voicegraft prepare` knows
    work: str = "runs/mine"  # receives everything in between
    out: str = "runs/mine/pack"  # the pack
    plan: bool = False  # only says what would be done (--plan)
    teacher: str = (
        ""  # pack that aligns, and lends the tokenizers that are not chosen; empty: the pocket pack (English)
    )
    name: str = "mine"
    licence: str = ""  # of the pack, for its card
    notes: str = ""  # Markdown file for its card: data and licences, limits
    language: tuple[str, ...] = ("en",)  # that the pack speaks, for its card
    frontend: str = "english"  # how written text is read; verbatim: as it stands, for the plain layout in any language
    default_voice: str = ""  # empty: the first
    # The teacher's parts into the pack; false: the pack names the teacher, which comes with the package; null: yes.
    copy_parts: bool | None = None
    copy_backbone: bool | None = None  # into the pack; null: yes where it is a folder, no where it is a name on the Hub
    workers: int = 1  # processes that prepare and tokenise
    device: str = "auto"
    corpus: CorpusChoice = field(default_factory=CorpusChoice)
    align: AlignConfig = field(default_factory=AlignConfig)  # for the guided layout
    semantic: SemanticChoice = field(default_factory=SemanticChoice)
    codec: CodecChoice = field(default_factory=CodecChoice)
    monitor: TrainMonitorConfig | None = field(default_factory=TrainMonitorConfig)  # guided layout; null: the teacher's
    acoustic: TrainAcousticConfig | None = field(
        default_factory=TrainAcousticConfig
    )  # null: the teacher's, in its voices
    say: SayConfig | None = None  # what the teacher says, for the expert to learn from too; null: nothing
    speech: TrainSpeechConfig = field(default_factory=TrainSpeechConfig)
    router: TrainRouterConfig | None = field(default_factory=TrainRouterConfig)  # null: the task chooses the expert
    listen: ListenChoice | None = None  # null: the pack speaks and does not hear; needs the part whisper-base-ct2
    options: SpeakOptions = field(default_factory=SpeakOptions)
    evaluate: EvaluateChoice | None = None  # null: not; needs the extra "evaluate"

    def __post_init__(self) -> None:
        taken = self.acoustic is None
        problems = {
            "acoustic: null takes what the teacher has: it goes without semantic.encoder and codec.model": (
                taken and bool(self.semantic.encoder or self.codec.model)
            ),
            "an expert with speech.teacher speaks in its teacher's voices, which the teacher's acoustic LM has: "
            "acoustic: null and speech.teacher go together": taken != bool(self.speech.teacher),
            "monitor: null takes the teacher's, which knows its voices: it goes with acoustic: null": (
                self.monitor is None and not taken
            ),
            "copy_parts: false takes all the teacher's parts: it goes with acoustic: null and monitor: null": (
                self.copy_parts is False and not (taken and self.monitor is None)
            ),
            "say makes speech for a teacher to explain: it goes with speech.teacher": (
                self.say is not None and not self.speech.teacher
            ),
        }
        for problem, found in problems.items():
            if found:
                raise ValueError(problem)
