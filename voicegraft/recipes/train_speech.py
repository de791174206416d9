"""Trains the speech expert: a LoRA and speech rows that make the frozen backbone pronounce and speak text.

    python -m voicegraft.recipes.train_speech configs/pocket/speech.yaml work=runs/pocket

Three kinds of sequences are mixed: recordings, synthetic speech, and pronunciation alone (text -> units, unlimited):
sentences, and lists of words in which rare words are frequent.
Each round has its own mixture; the last one leans on the recordings. Writes ``expert/``. With ``text_share`` the same LoRA
learns to answer questions too: the joint training that the mixture of experts is compared with.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from voicegraft.core.runtime import pick_device, single_thread
from voicegraft.data.batches import LengthBuckets, collate
from voicegraft.data.chat import chat_prompt, encode, sentence_ids
from voicegraft.data.pronunciation import UNITS, Lexicon, phones_by_word, words_of
from voicegraft.data.sequences import SpeechSequence, WordSpelling, speech_sequence
from voicegraft.data.speech import Clip, PreparedSpeech, frame_counts, newest_alignments
from voicegraft.data.spelling import Speller
from voicegraft.fusion.backbone import load_backbone
from voicegraft.fusion.experts import LoraSettings
from voicegraft.fusion.lora_training import SpeechExpertTraining
from voicegraft.recipes.command import recipe_config
from voicegraft.recipes.tokenize import Tokens
from voicegraft.recipes.train_backbone import QuestionsConfig, training_questions
from voicegraft.recipes.train_text import TextBatches
from voicegraft.tokenizers.fsq import FSQ
from voicegraft.tokenizers.semantic import SemanticTokenizer
from voicegraft.tokenizers.vocabulary import HIDDEN, SpeechVocabulary
from voicegraft.train.loop import LoopConfig, run

WORDS_PER_LIST = 8


@dataclass(frozen=True)
class Round:
    loop: LoopConfig = field(default_factory=LoopConfig)
    human_share: float = 0.35  # of the sequences' positions
    synthetic_share: float = 0.45  # the rest is pronunciation alone


@dataclass(frozen=True)
class TrainSpeechConfig:
    work: str = "runs/pocket"
    backbone: str = ""  # folder of a causal LM; empty: work/backbone
    aligned: str = ""  # folder of aligned manifests; empty: the newest in work/alignments
    start_from: str = ""  # folder of an expert of the same shape to go on from; empty: a fresh one
    out: str = "expert"  # folder in work that receives the expert
    lora: LoraSettings = field(default_factory=LoraSettings)
    activated: bool = False  # the LoRA acts from the first speech token on, not on the text before
    chat_context: float = 0.0  # share of the sequences that stand at the end of a written answer
    text_share: float = 0.0  # share of the steps that train written answers
    questions: QuestionsConfig = field(default_factory=QuestionsConfig)  # for both
    rounds: tuple[Round, ...] = (Round(),)
    batch_positions: int = 4096  # positions per batch
    hidden_codes: float = 0.2  # share of the codes said so far that are not shown
    wrong_digits: float = 0.05  # share of the digits of those that are, off by one
    num_pronunciations: int = 40_000  # sentences that are only pronounced
    num_word_lists: int = 20_000  # lists of words that are only pronounced
    max_frames: int = 500  # longer utterances are left out
    device: str = "auto"


@dataclass(frozen=True)
class Material:
    """Sequences of one split, by kind."""

    human: list[SpeechSequence]
    synthetic: list[SpeechSequence]
    pronunciation: list[SpeechSequence]

    def mixed(self, round: Round, budget: int) -> tuple[list[SpeechSequence], LengthBuckets]:
        """All sequences, and buckets that draw the kinds by the round's shares of positions."""
        shares = (round.human_share, round.synthetic_share, 1 - round.human_share - round.synthetic_share)
        items: list[SpeechSequence] = []
        weights: list[float] = []
        for share, kind in zip(shares, (self.human, self.synthetic, self.pronunciation), strict=True):
            positions = sum(len(s) for s in kind)
            items += kind
            weights += [share / max(1, positions)] * len(kind)
        return items, LengthBuckets([len(s) for s in items], weights, budget)


def main(argv: list[str] | None = None) -> None:
    single_thread()
    train_speech(recipe_config(TrainSpeechConfig, __doc__, argv))


def train_speech(config: TrainSpeechConfig) -> None:
    work, device = Path(config.work), pick_device(config.device)
    semantic = SemanticTokenizer.load(work / "semantic")
    speech = PreparedSpeech(work, aligned=Path(config.aligned) if config.aligned else newest_alignments(work))
    vocabulary = SpeechVocabulary(tuple(speech.speakers), UNITS, semantic.spec.vocab_size)
    backbone, tokenizer = load_backbone(Path(config.backbone) if config.backbone else work / "backbone")
    torch.manual_seed(0)
    fingerprint = semantic.spec.fingerprint
    model = SpeechExpertTraining(
        backbone, tokenizer, vocabulary, fingerprint, config.lora, semantic.config.levels, config.activated
    )
    if config.start_from:
        model.take(Path(config.start_from))
    model.to(device)
    tokens = Tokens(work, "semantic", fingerprint)
    spelling = Spelling(tokenizer, Lexicon.load(work / "lexicon.json"))
    context = Context(tokenizer, config)
    plain = (config.num_pronunciations, config.num_word_lists)
    train = material(config, vocabulary, spelling, context, speech, tokens, "train", *plain)
    held = material(config, vocabulary, spelling, context, speech, tokens, "val", 200, 100)
    asked = None
    if config.text_share:
        asked = TextBatches(tokenizer, config.questions, work, config.batch_positions, 400, device)

    fsq = FSQ(semantic.config.levels).to(device)

    def losses(
        players: Mapping[str, nn.Module], batch: dict[str, Tensor], step: int
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        loss, parts = players["speech"](batch if "answer" in batch else damaged(batch, vocabulary, fsq, config))
        return {"speech": loss}, parts

    @torch.inference_mode()
    def validate(_: int) -> dict[str, float]:
        model.eval()
        scores = {}
        for name, kind in (("human", held.human), ("synthetic", held.synthetic[:60]), ("plain", held.pronunciation)):
            parts = [model(collate(kind[i : i + 12], device))[1] for i in range(0, len(kind), 12)]
            for part in ("think", "speak", "think_accuracy"):
                scores[f"{name}_{part}"] = float(np.mean([float(p[part]) for p in parts]))
        model.train()
        scores |= {} if asked is None else asked.validate(model)
        return {k: v for k, v in scores.items() if k != "plain_speak"}

    for number, one in enumerate(config.rounds):
        items, buckets = train.mixed(one, config.batch_positions)

        def batch_at(
            step: int, items: list[SpeechSequence] = items, buckets: LengthBuckets = buckets, seed: int = one.loop.seed
        ) -> dict[str, Tensor]:
            if asked is not None and random.Random(f"{seed} {step}").random() < config.text_share:
                return asked(step, seed)
            return collate([items[i] for i in buckets.draw(step, seed)], device)

        if not run(
            one.loop, work / f"{config.out}-training" / f"round{number}", {"speech": model}, batch_at, losses, validate
        ):
            return
    model.save(work / config.out, {"recipe": "train_speech", "rounds": len(config.rounds)})


def damaged(
    batch: Mapping[str, Tensor], vocabulary: SpeechVocabulary, fsq: FSQ, config: TrainSpeechConfig
) -> dict[str, Tensor]:
    """The batch with some of its codes hidden and some nudged, as input; the targets stay.

    What the expert said itself is less reliable than recordings are: it must not lean on every frame of it.
    """
    token = batch["token"]
    nudged = fsq.nudge((token - vocabulary.first_code).clamp(min=0), config.wrong_digits)
    hide = torch.rand(token.shape, device=token.device) < config.hidden_codes
    shown = torch.where(hide, HIDDEN, vocabulary.first_code + nudged)
    return {**batch, "token": torch.where(token >= vocabulary.first_code, shown, token)}


class Spelling:
    """Turns texts and their units into the words of a training sequence."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, lexicon: Lexicon):
        self.tokenizer, self.lexicon = tokenizer, lexicon
        self.speller = Speller(lexicon.entries.items())

    def words(self, text: str, units: Sequence[str]) -> list[WordSpelling] | None:
        """The words of ``text``, said as ``units``; None when a word has too few letters for its phones."""
        spelt = []
        for word, phones in zip(words_of(text), phones_by_word(units), strict=True):
            groups = self.speller.align(word.key, phones)
            if groups is None:
                return None
            spelt.append(WordSpelling(encode(self.tokenizer, word.written), word.letters, groups))
        return spelt

    def initialism(self, draw: random.Random) -> tuple[str, WordSpelling, list[str]]:
        """Some capitals that are read letter by letter (FBI): they are rare in books. With their units."""
        names = {**self.lexicon.entries, "a": ("ey",), "q": ("k", "y", "uw")}  # in running text "a" is the article
        known = [letter for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if letter.lower() in names]
        letters = "".join(draw.choices(known, k=draw.randint(2, 4)))
        groups = [names[letter.lower()] for letter in letters]
        return letters, WordSpelling(encode(self.tokenizer, letters), letters, groups), [p for g in groups for p in g]


class Context:
    """What stands before a sentence: nothing, or a question whose written answer it ends."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, config: TrainSpeechConfig):
        self.tokenizer, self.share = tokenizer, config.chat_context
        found = training_questions(config.questions, Path(config.work) / "corpora") if self.share else []
        self.questions = [q.text for q in found]

    def ids(self, sentence: str, draw: random.Random) -> list[int]:
        """Backbone tokens of the context and the sentence."""
        if draw.random() >= self.share:
            return sentence_ids(self.tokenizer, sentence)
        prompt = chat_prompt(self.tokenizer, [("user", draw.choice(self.questions))])
        return [*prompt, *encode(self.tokenizer, sentence)]


def material(
    config: TrainSpeechConfig,
    vocabulary: SpeechVocabulary,
    spelling: Spelling,
    context: Context,
    speech: PreparedSpeech,
    tokens: Tokens,
    split: str,
    num_plain: int,
    num_lists: int,
) -> Material:
    """Builds all sequences of a split; sentences that are only pronounced come after those that are synthesised."""
    work = Path(config.work)
    lexicon = spelling.lexicon
    rate = SemanticTokenizer.load(work / "semantic").spec.frame_rate

    def of_clip(clip: Clip) -> SpeechSequence | None:
        u = clip.utterance
        codes = tokens(clip)[:, 0]
        if not u.units or len(codes) > config.max_frames:
            return None
        text = vary(u.text, u.id) if split == "train" else u.text
        words = spelling.words(text, u.units)
        if words is None:
            return None
        counts = frame_counts(u, len(codes), rate)
        before = context.ids(text, random.Random(u.id))
        return speech_sequence(vocabulary, before, words, u.speaker, u.units, codes, counts)

    def of_text(number: int, text: str) -> SpeechSequence | None:
        units = lexicon.units(text)
        if units is None:
            return None
        draw = random.Random(number)
        text = vary(text, str(number)) if split == "train" else text
        words = spelling.words(text, units)
        if words is None:
            return None
        if split == "train" and draw.random() < 0.1:
            written, word, phones = spelling.initialism(draw)
            text, words, units = f"{written} {text}", [word, *words], [*units[:1], *phones, "|", *units[1:]]
        before = context.ids(text, draw)
        return speech_sequence(vocabulary, before, words, draw.choice(vocabulary.voices), units)

    def of_clips(synthetic: bool) -> list[SpeechSequence]:
        clips = tqdm(speech.select(split, synthetic=synthetic), desc=f"{split} sequences", unit="clip", mininterval=5)
        return [s for s in map(of_clip, clips) if s is not None]

    sentences = (work / "sentences.txt").read_text().splitlines()
    last = -config.num_pronunciations if split == "train" else -config.num_pronunciations - num_plain
    lists = word_lists(lexicon, sentences, num_lists, seed=split == "train")
    plain = (of_text(number, text) for number, text in enumerate([*sentences[last:][:num_plain], *lists]))
    return Material(of_clips(False), of_clips(True), [s for s in plain if s is not None])


def word_lists(lexicon: Lexicon, sentences: Sequence[str], count: int, seed: int) -> list[str]:
    """Lists of words, each drawn by the square root of how often the sentences say it, plus one.

    Running text would show a rare word once in a training, or never.
    """
    said = Counter(word.key for text in sentences for word in words_of(text))
    words = sorted(lexicon.entries)
    weights = np.sqrt([said[word] + 1 for word in words])
    draw = np.random.default_rng(seed)
    chosen = draw.choice(words, size=(count, WORDS_PER_LIST), p=weights / weights.sum())
    return [" ".join(row).capitalize() + "." for row in chosen]


def vary(text: str, key: str) -> str:
    """People type carelessly: one text in ten loses its capitals, one in ten its final punctuation."""
    draw = random.Random(key).random()
    if draw < 0.1:
        return text.lower()
    return text.rstrip(".?!") if draw < 0.2 else text


if __name__ == "__main__":
    main()
