"""Tiny random models and made-up speech, written by the real functions: a work folder and a pack."""

import copy
import json
import tempfile
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from tests.once import copy_of
from voicegraft.acoustic.acoustic_lm import AcousticConfig, AcousticLM
from voicegraft.acoustic.vocoder import Vocoder, VocoderConfig
from voicegraft.acoustic.voice_encoder import VoiceEncoder, VoiceEncoderConfig
from voicegraft.audio.mel import MelConfig
from voicegraft.audio.pitch import relative_pitch
from voicegraft.core.artifacts import fingerprint
from voicegraft.data.chat import encode
from voicegraft.data.lexicon import Lexicon
from voicegraft.data.manifest import Utterance
from voicegraft.data.recordings import write_speech
from voicegraft.data.sequences import WordSpelling
from voicegraft.data.shards import RaggedArray, write_ragged
from voicegraft.fusion.backbone import load_backbone
from voicegraft.fusion.decoders.folded import FoldedDecoder
from voicegraft.fusion.decoders.transformers import TransformersDecoder
from voicegraft.fusion.experts import Belongs, Expert, LoraSettings, adapter_state, attach_lora, save_lora
from voicegraft.fusion.lora_training import SpeechExpertTraining
from voicegraft.fusion.mole import MoLE
from voicegraft.fusion.router import Router, RouterConfig, RouterSettings
from voicegraft.fusion.speech_lm import SpeechLM
from voicegraft.inference.pack import PackHeader, write_pack
from voicegraft.inference.sentence import SpeakOptions
from voicegraft.text.units import PHONES, UNITS, words_of
from voicegraft.tokenizers.codec import Codec, CodecConfig
from voicegraft.tokenizers.semantic import SemanticConfig, SemanticTokenizer
from voicegraft.tokenizers.vocabulary import END_OF_UNIT, SpeechVocabulary

RATE = 24_000  # Hz
FRAME = 480  # samples per token
MEL = MelConfig(num_mels=20)
SEMANTIC = SemanticConfig(mel=MEL, width=16, dilations=(1, 2), kernel=3, levels=(3, 3, 3), num_speakers=4)
CODEC = CodecConfig(
    mel=MelConfig(num_mels=20, high_hz=12_000.0),
    width=16,
    dilations=(1, 2),
    latent_width=6,
    num_codebooks=3,
    codebook_size=16,
)
VOCODER = VocoderConfig(
    num_codebooks=3, codebook_size=16, code_width=6, width=16, slow_dilations=(1, 2), fast_dilations=(1, 2)
)
VOICES = VoiceEncoderConfig(mel=MEL, channels=12, dilations=(1, 2), width=5)
ACOUSTIC = AcousticConfig(
    semantic_vocab=27,
    voices=("ann", "ben"),
    voice_width=5,
    num_codebooks=3,
    codebook_size=16,
    code_width=6,
    width=16,
    num_layers=2,
    num_heads=2,
    mlp_width=24,
    head_width=12,
    window=7,
)
LORA = LoraSettings(rank=4, alpha=8)
VOCABULARY = SpeechVocabulary(("ann", "ben", "flite-slt"), UNITS, 27)
PLAIN = SpeechVocabulary(("ann", "ben", "flite-slt"), (), 27)

SPOKEN = {
    "the": "dh ax",
    "owl": "aw l",
    "see": "s iy",
    "sees": "s iy z",
    "my": "m ay",
    "house": "hh aw s",
    "now": "n aw",
    "we": "w iy",
    "go": "g ow",
    "home": "hh ow m",
}
LEXICON = Lexicon({word: tuple(phones.split()) for word, phones in SPOKEN.items()})
SENTENCES = (
    "The owl sees my house.",
    "We go home, now!",
    "Now the owl sees.",
    "My house sees the owl?",
    "We see.",
)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, with begin and end tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<s>", "</s>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>")


def llama() -> PreTrainedModel:
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=258,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        bos_token_id=0,
        eos_token_id=1,
    )
    return LlamaForCausalLM(config).eval()


def write_backbone(folder: Path) -> None:
    llama().save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)


def trained_expert(
    backbone: PreTrainedModel, semantic: str = "s", vocabulary: SpeechVocabulary = VOCABULARY, **options: Any
) -> SpeechExpertTraining:
    """A speech expert whose weights are not zero, as if trained: a fresh LoRA does nothing."""
    torch.manual_seed(2)
    code_rows = SemanticTokenizer(SEMANTIC).rows
    training = SpeechExpertTraining(backbone, byte_tokenizer(), vocabulary, semantic, LORA, code_rows, **options)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in training.named_parameters():
            if ".lora_" in name or ".follow.3." in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return training.eval()


def speech_lm(
    backbone: PreTrainedModel, semantic: str = "s", listening: Expert | None = None, **options: Any
) -> SpeechLM:
    """The fused model: the identity that writes, an expert that speaks, and one that hears if it is given."""
    training = trained_expert(copy.deepcopy(backbone), semantic, **options)
    with tempfile.TemporaryDirectory() as folder:
        training.save(Path(folder), {})
        expert = Expert.load(Path(folder) / "speech")
    experts = {"text": None, "speech": expert} | ({"listening": listening} if listening else {})
    return SpeechLM(MoLE(backbone, experts), byte_tokenizer(), training.speech_embedding).eval()


@cache
def _fused(options: tuple[tuple[str, Any], ...]) -> SpeechLM:
    return speech_lm(llama(), **dict(options))


def fused(**options: Any) -> SpeechLM:
    """``speech_lm`` on the tiny Llama, which is made once and copied."""
    return copy.deepcopy(_fused(tuple(options.items())))


def lora(backbone: PreTrainedModel, folder: Path, name: str) -> Path:
    """An adapter of weights at random, as its training saves it."""
    model = attach_lora(copy.deepcopy(backbone), LORA, name)
    draw = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for tensor in adapter_state(model, name).values():
            tensor.copy_(0.3 * torch.randn(tensor.shape, generator=draw))
    save_lora(model, name, folder, Belongs.to(backbone, byte_tokenizer()))
    return folder / name


def decode_through(lm: SpeechLM, folded: bool) -> SpeechLM:
    """The model on one of the decoders, whatever would be chosen."""
    lm.decoder = (FoldedDecoder if folded else TransformersDecoder)(lm.mole, lm.inner)
    return lm


def taught_router(lm: SpeechLM) -> Router:
    """A segment router that knows texts from texts that end with a voice's marker."""
    torch.manual_seed(9)
    rows = lm.speech_embedding.config
    router = Router(
        RouterConfig(lm.mole.names, rows.width, lm.mole.num_layers, rows.backbone, RouterSettings(hidden=8))
    )
    adam = torch.optim.Adam(router.parameters(), lr=0.03)
    prompts = []
    with torch.no_grad():
        for text in SENTENCES:
            embedded = lm.embed_text(torch.tensor([lm.text_ids(text)]))
            markers = [lm.speech_embedding.token.weight[VOCABULARY.voice_id(v)][None, None] for v in VOCABULARY.voices]
            prompts += [(embedded, "text"), *((torch.cat([embedded, m], 1), "speech") for m in markers)]
    for _ in range(40):
        adam.zero_grad()
        logits = torch.cat([router.decide(x) for x, _ in prompts])
        wanted = torch.tensor([lm.mole.names.index(expert) for _, expert in prompts])
        torch.nn.functional.cross_entropy(logits, wanted).backward()
        adam.step()
    return router.eval()


def words_said(text: str) -> list[WordSpelling]:
    """The words of a sentence of the lexicon, each phone on a letter of its own."""
    spelt = []
    for word in words_of(text):
        phones = LEXICON.entries[word.key]
        groups = [(phones[i],) if i < len(phones) else () for i in range(len(word.letters))]
        spelt.append(WordSpelling(encode(byte_tokenizer(), word.written), word.letters, groups))
    return spelt


def codec() -> Codec:
    torch.manual_seed(3)
    model = Codec(CODEC)
    model.rvq.codebooks.normal_()
    model.rvq.started.fill_(True)
    return model.eval()


def vocoder(fingerprint: str = "c") -> Vocoder:
    torch.manual_seed(4)
    model = Vocoder(VocoderConfig(**{**VOCODER.__dict__, "codec": fingerprint}))
    model.codebooks.normal_()
    return model.eval()


def acoustic_lm(semantic: str = "s", codec: str = "c", voice_encoder: str = "") -> AcousticLM:
    torch.manual_seed(5)
    config = replace(ACOUSTIC, semantic=semantic, codec=codec, voice_encoder=voice_encoder)
    model = AcousticLM(config)
    model.codebooks.normal_()
    return model.eval()


def write_parts(work: Path) -> None:
    """All parts of a pack that fits together, and speaks quickly: a frame or two per phone."""
    copy_of(_make_parts, work)


def _make_parts(work: Path) -> None:
    write_backbone(work / "backbone")
    torch.manual_seed(6)
    semantic = SemanticTokenizer(SEMANTIC).half().float()
    semantic.save(work / "semantic", {})
    semantic_id = SemanticTokenizer.load(work / "semantic").spec.fingerprint
    codec().half().float().save(work / "codec", {})
    codec_id = Codec.load(work / "codec").spec.fingerprint
    voices = VoiceEncoder(VOICES).half().float()
    voices.save(work / "voice", {})
    acoustic_lm(semantic_id, codec_id, fingerprint(voices.state_dict())).save(work / "acoustic", {})
    vocoder(codec_id).save(work / "vocoder", {})
    backbone, _ = load_backbone(work / "backbone")
    lm = trained_expert(backbone, semantic_id)
    with torch.no_grad():
        # Hidden states have a norm of about 6, so logits scatter by about 0.1 * 6.
        lm.speech_embedding.head.weight.normal_(std=0.1, generator=torch.Generator().manual_seed(7))
        lm.speech_embedding.head.bias[END_OF_UNIT] = 4.0
        # Some letters make sounds, some do not.
        lm.speech_embedding.head.bias[VOCABULARY.first_unit : VOCABULARY.first_code] = 2.0
    lm.save(work / "expert", {})
    taught_router(SpeechLM.load(work / "backbone", work / "expert")).save(work / "router", {})


OPTIONS = SpeakOptions(max_unit_frames=8)


def write_tiny_pack(folder: Path, work: Path) -> None:
    write_parts(work)
    write_pack(folder, work, PackHeader("tiny", default_voice="ben", options=OPTIONS), "# A tiny pack\n")


@dataclass(frozen=True)
class MadeUp:
    """An utterance whose phones are chords, a different one each."""

    utterance: Utterance
    samples: np.ndarray  # [T] at RATE


def made_up_utterance(name: str, speaker: str, split: str, text: str, aligned: bool, seed: int) -> MadeUp:
    random = np.random.default_rng(seed)
    units = LEXICON.units(text)
    assert units is not None
    counts = [int(random.integers(4, 8)) if u in PHONES else int(random.integers(0, 4)) for u in units]
    base = {"ann": 190.0, "ben": 110.0}.get(speaker, 150.0)
    pieces = []
    for unit, count in zip(units, counts, strict=True):
        time = np.arange(count * FRAME) / RATE
        if unit in PHONES:
            formant = 300 + 80 * PHONES.index(unit)
            tone = sum(np.sin(2 * np.pi * base * h * time) / h for h in range(1, 5))
            pieces.append(0.2 * tone + 0.2 * np.sin(2 * np.pi * formant * time))
        else:
            pieces.append(np.zeros(len(time)))
    samples = np.concatenate(pieces) + 0.001 * random.standard_normal(sum(counts) * FRAME)
    ends = tuple(float(e) * FRAME / RATE for e in np.cumsum(counts))
    utterance = Utterance(
        id=name,
        audio="",
        text=text,
        speaker=speaker,
        split=split,
        duration_sec=len(samples) / RATE,
        units=tuple(units) if aligned else (),
        unit_ends_sec=ends if aligned else (),
        synthetic=speaker.startswith("flite-"),
    )
    return MadeUp(utterance, samples.astype(np.float32))


def write_made_up_speech(work: Path) -> None:
    """Two recorded voices without times and a synthetic one with them, as ``recipes.prepare`` leaves them."""
    copy_of(_make_up_speech, work)


def _make_up_speech(work: Path) -> None:
    LEXICON.save(work / "lexicon.json")
    (work / "sentences.txt").write_text("\n".join(SENTENCES * 4) + "\n")
    for shard, speaker, aligned in (
        ("ann", "ann", False),
        ("ben", "ben", False),
        ("flite-000", "flite-slt", True),
    ):
        pairs = []
        for i, text in enumerate(SENTENCES[:4]):
            split = "val" if i == 3 else "train"
            made = made_up_utterance(f"{shard}-{i}", speaker, split, text, aligned, seed=i)
            pairs.append((made.utterance, made.samples))
        folder = work / "speech" / shard
        write_speech(folder, pairs, MEL)
        audio = RaggedArray(folder / "audio")
        tracks = (relative_pitch(torch.from_numpy(a / np.float32(32768)), RATE, FRAME).numpy() for a in audio)
        write_ragged(folder / "pitch", tracks, "float16", key=f"pitch-{RATE}-{FRAME}")


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
