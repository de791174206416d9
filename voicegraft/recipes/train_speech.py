"""Trains the speech expert: a LoRA and a speech embedding that make the frozen backbone pronounce and speak text.

    voicegraft recipe train_speech pocket/speech work=runs/pocket

Three kinds of sequences are mixed: recordings, synthetic speech, and pronunciation alone (text -> units, unlimited):
sentences, and lists of words in which rare words are frequent.
Each round has its own mixture; the last one leans on the recordings. Writes ``expert/``. With ``text_share`` the same LoRA
learns to answer questions too: the joint training that the mixture of experts is compared with.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from voicegraft.core.errors import VoicegraftError
from voicegraft.core.processes import is_main_process
from voicegraft.core.runtime import pick_device
from voicegraft.data.batches import LengthBuckets, collate
from voicegraft.data.lexicon import Lexicon
from voicegraft.data.prepared import PreparedSpeech, newest_alignments
from voicegraft.data.question_batches import QuestionBatches
from voicegraft.data.questions import QuestionsConfig, training_questions
from voicegraft.data.sequences import SpeechSequence, TaughtSequence
from voicegraft.data.speech_sequences import (
    Context,
    Guided,
    Mixture,
    Plain,
    SequenceSource,
    Spelling,
    WithTeacher,
    sentences_of,
)
from voicegraft.data.spelling import Spells
from voicegraft.data.tokens import Tokens
from voicegraft.fusion.backbone import BackboneSettings, load_backbone
from voicegraft.fusion.experts import LoraSettings
from voicegraft.fusion.lora_training import SpeechExpertTraining
from voicegraft.fusion.speech_embedding import Layout
from voicegraft.fusion.speech_lm import LEXICON
from voicegraft.recipes.command import recipe_main
from voicegraft.recipes.speech_material import Material, Round, material
from voicegraft.recipes.speech_teacher import SpeechTeacher
from voicegraft.text.frontend import need_spelling, open_frontend
from voicegraft.text.units import UNITS
from voicegraft.tokenizers.base import SemanticEncoder
from voicegraft.tokenizers.loading import open_semantic
from voicegraft.tokenizers.vocabulary import MASK, SpeechVocabulary
from voicegraft.train.engine import launched_sharded, save_once
from voicegraft.train.loop import Losses, Metrics, Models, own_loss, run


@dataclass(frozen=True)
class TrainSpeechConfig:
    work: str = "runs/mine"  # the work folder
    corpora: tuple[str, ...] = ()  # shards whose names begin so; none: all
    backbone: str = ""  # folder of a causal LM; empty: work/backbone
    aligned: str = ""  # folder of aligned manifests; empty: the newest in work/alignments
    teacher: str = ""  # pack whose whole distribution is learnt in place of the recordings' tokens; empty: none
    start_from: str = ""  # folder of an expert of the same shape to go on from; empty: a fresh one
    out: str = "expert"  # folder in work that receives the expert
    lora: LoraSettings = field(default_factory=LoraSettings)
    loading: BackboneSettings = field(default_factory=BackboneSettings)  # number format, gradient checkpointing, ...
    activated: bool = False  # the LoRA acts from the first speech token on, not on the text before
    layout: Layout = (
        "guided"  # guided spells and is told its place; plain goes from text to codes, without pronunciations
    )
    frontend: str = "english"  # or verbatim: how written text is read, the same as the pack's
    frames_per_step: int = 1  # semantic tokens that one step of the backbone says: 1, 2 or 4
    num_layers: int = 0  # decoder layers of the backbone that speech passes, from the first on; 0: all
    spells: Spells = "all"  # guided layout: every word, or unknown: those alone that the pack's lexicon lacks
    num_runs: int = (
        0  # plain layout: equal tokens in a row become one with a length of up to so many frames; 0: none do
    )
    chat_context: float = 0.0  # share of the sequences that stand at the end of a written answer
    text_share: float = 0.0  # share of the steps that train written answers
    questions: QuestionsConfig = field(default_factory=QuestionsConfig)  # for both
    rounds: tuple[Round, ...] = (Round(),)
    batch_positions: int = 4096  # positions per batch
    hidden_codes: float = 0.2  # share of the codes said so far that are not shown
    wrong_digits: float = 0.05  # share of the digits of those that are (FSQ), or of the codes, that are off a little
    num_pronunciations: int = 40_000  # sentences that are only pronounced
    num_word_lists: int = 20_000  # lists of words that are only pronounced
    max_frames: int = 500  # longer utterances are left out
    device: str = "auto"

    def __post_init__(self) -> None:
        need_spelling(self.frontend, self.layout)
        if self.num_runs and self.layout != "plain":
            raise ValueError("num_runs goes with layout: plain; a guided unit ends by itself")
        if self.frames_per_step < 1 or self.num_layers < 0:
            raise ValueError(
                f"frames_per_step must be 1 or more and num_layers 0 or more, got {self.frames_per_step}, {self.num_layers}"
            )
        if self.layout != "guided" and (self.teacher or self.spells != "all"):
            raise ValueError("teacher and spells go with layout: guided")


def train_speech(config: TrainSpeechConfig) -> None:
    work, device = Path(config.work), pick_device(config.device)
    semantic = open_semantic(work / "semantic")
    guided = config.layout == "guided"
    aligned = newest_alignments(work)
    speech = PreparedSpeech(work, config.corpora or None, Path(config.aligned) if config.aligned else aligned)
    units = UNITS if guided else ()
    teacher = None
    if config.teacher:
        teacher = SpeechTeacher.load(config.teacher, semantic.spec.fingerprint)
        speech.add_said(work)
        speech.say_in(teacher.vocabulary.voices)
    vocabulary = SpeechVocabulary(tuple(speech.speakers), units, semantic.spec.vocab_size, config.num_runs)
    backbone, tokenizer = load_backbone(config.backbone or work / "backbone", config.loading)
    torch.manual_seed(0)
    model = SpeechExpertTraining(
        backbone,
        tokenizer,
        vocabulary,
        semantic.spec.fingerprint,
        config.lora,
        semantic.rows,
        config.activated,
        config.layout,
        config.frames_per_step,
        config.num_layers,
        config.spells,
    )
    if config.start_from:
        model.take(Path(config.start_from))
    if not launched_sharded():
        model.to(device)
    tokens = Tokens(work, "semantic", semantic.spec.fingerprint)
    found = training_questions(config.questions, work / "corpora") if config.chat_context else []
    context = Context(tokenizer, config.chat_context, [question.text for question in found])
    settings = (vocabulary, tokens, context, open_frontend(config.frontend), config.frames_per_step, config.max_frames)
    source: SequenceSource = Plain(*settings)
    lexicon, sentences = None, []
    if guided:
        lexicon = Lexicon.load(work / "lexicon.json")
        sentences = (work / "sentences.txt").read_text(encoding="utf-8").splitlines()
        spelling = Spelling(tokenizer, lexicon)
        source = Guided(*settings, semantic.spec.frame_rate, spelling=spelling, spells=config.spells)
    if teacher:
        source = WithTeacher(cast(Guided, source), teacher.reader(cast(Guided, source)))

    def material_of(split: str, num_sentences: int, num_lists: int) -> Material:
        own = sentences_of(split, sentences, speech)
        return material(source, speech, own, lexicon, split, num_sentences, num_lists)

    train = material_of("train", config.num_pronunciations, config.num_word_lists)
    held = material_of("val", 200, 100)
    if not train.human and not train.synthetic:
        raise VoicegraftError(
            f"none of the recordings in {work / 'speech'} can be trained on: expected recordings of at most "
            f"{config.max_frames} tokens" + (", timed (work/alignments), with a token per phone" if guided else "")
        )
    asked = None
    if config.text_share:
        asked = QuestionBatches(tokenizer, config.questions, work, config.batch_positions, 400, device)
    cast(nn.Module, semantic).to(device)

    def losses(models: Models, batch: dict[str, Tensor], step: int) -> tuple[Losses, Metrics]:
        return own_loss(
            models, batch if "answer" in batch else corrupt_inputs(batch, vocabulary, semantic, config), step
        )

    def batch_of(sequences: Sequence[SpeechSequence]) -> dict[str, Tensor]:
        batch = collate(sequences, device)
        shown = [s.teacher for s in sequences if isinstance(s, TaughtSequence)]
        return {**batch, "taught": teacher.expects(shown, device)} if teacher else batch

    def validate(_: int) -> dict[str, float]:
        scores = {}
        for name, kind in (
            ("human", held.human),
            ("synthetic", held.synthetic[:60]),
            ("pronunciation", held.pronunciation),
        ):
            parts = [model(batch_of(kind[i : i + 12]))[1] for i in range(0, len(kind), 12)]
            for part in dict.fromkeys(part for found in parts for part in found):
                scores[f"{name}_{part}"] = float(np.mean([float(found[part]) for found in parts if part in found]))
        scores |= {} if asked is None else asked.validate(model)
        return {k: v for k, v in scores.items() if k != "pronunciation_speak"}

    for number, one in enumerate(config.rounds):
        items, buckets = train.mixed(one, config.batch_positions)

        def batch_at(
            step: int, items: Mixture = items, buckets: LengthBuckets = buckets, seed: int = one.loop.seed
        ) -> dict[str, Tensor]:
            if asked is not None and random.Random(f"{seed} {step}").random() < config.text_share:
                return asked(step, seed)
            return batch_of([items[i] for i in buckets.draw(step, seed)])

        if not run(
            one.loop, work / f"{config.out}-training" / f"round{number}", {"speech": model}, batch_at, losses, validate
        ):
            return
    if config.spells == "unknown" and lexicon is not None and is_main_process():
        (work / config.out).mkdir(parents=True, exist_ok=True)
        lexicon.save(work / config.out / LEXICON)
    save_once(model, model.save, work / config.out, {"recipe": "train_speech", "rounds": len(config.rounds)})


def corrupt_inputs(
    batch: Mapping[str, Tensor], vocabulary: SpeechVocabulary, semantic: SemanticEncoder, config: TrainSpeechConfig
) -> dict[str, Tensor]:
    """The batch with some of its codes masked and some perturbed, as input; the targets stay.

    What the expert said itself is less reliable than recordings are: it must not lean on every frame of it.
    """

    def corrupt(token: Tensor) -> Tensor:
        code = token - vocabulary.first_code
        perturbed = semantic.perturb(code.clamp(0, vocabulary.num_codes - 1), config.wrong_digits)
        masked = torch.rand(token.shape, device=token.device) < config.hidden_codes
        shown = torch.where(masked, MASK, vocabulary.first_code + perturbed)
        return torch.where((code >= 0) & (code < vocabulary.num_codes), shown, token)

    return {**batch, "token": corrupt(batch["token"]), "more": corrupt(batch["more"])}


main = recipe_main(train_speech, __doc__)


if __name__ == "__main__":
    main()
