import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from pocket.bpe import ChatEncoder, packed_rows, stream_rows
from pocket.train_backbone import (
    ANSWER,
    QUESTION,
    BackboneConfig,
    Batches,
    ModelConfig,
    backbone_tokenizer,
    train_backbone,
    training_rows,
)
from tests.corpora import write_corpora
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.messages import Message
from voicegraft.data import questions as qa
from voicegraft.data.corpora import book_pieces, words_key
from voicegraft.data.questions import QuestionsConfig
from voicegraft.evaluation.tasks.base import Subject
from voicegraft.evaluation.tasks.perplexity import perplexity
from voicegraft.evaluation.tasks.short_answers import ShortAnswers
from voicegraft.fusion.backbone import load_backbone
from voicegraft.recipes import evaluate_backbone as evaluation
from voicegraft.train.config import LoopConfig


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> BackboneConfig:
    folder = tmp_path_factory.mktemp("backbone")
    write_corpora(folder / "data")
    return BackboneConfig(
        data=str(folder / "data"),
        work=str(folder / "work"),
        never_say=("prompts.txt",),
        books_held_out=0.1,
        vocab_size=400,
        context=96,
        text_rows=2,
        question_rows=1,
        short_steps=2,
        validation_rows=3,
        device="cpu",
        model=ModelConfig(hidden=32, layers=2, heads=4, kv_heads=2, mlp=48, max_positions=256),
        questions=QuestionsConfig(reading=60, dialogue=30, arithmetic=40, words=40, trivia=20, yes_or_no=20),
        loop=LoopConfig(steps=4, warmup_steps=1, precision="no", validate_every=4, save_every=2, log_every=1),
    )


@pytest.fixture(scope="module")
def trained(config: BackboneConfig) -> Path:
    train_backbone(config)
    return Path(config.work) / "backbone"


def test_the_folder_is_an_ordinary_hugging_face_model_with_tied_half_precision_weights(trained: Path) -> None:
    stored = json.loads((trained / "config.json").read_text())
    assert stored["architectures"] == ["LlamaForCausalLM"] and stored["tie_word_embeddings"]
    assert "auto_map" not in stored
    with safe_open(trained / "model.safetensors", "pt") as file:
        names = list(file.keys())
        assert {file.get_tensor(name).dtype for name in names} == {torch.float16}
        assert "lm_head.weight" not in names
    model = AutoModelForCausalLM.from_pretrained(trained, dtype=torch.float32)
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    tokenizer = AutoTokenizer.from_pretrained(trained)
    assert json.loads((trained / "tokenizer_config.json").read_text())["chat_template"] == tokenizer.chat_template
    assert (model.config.bos_token_id, model.config.pad_token_id) == (
        tokenizer.bos_token_id,
        tokenizer.pad_token_id,
    )
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert len(tokenizer) == model.config.vocab_size == 400


def test_training_moved_the_weights_from_where_they_began(
    config: BackboneConfig, trained: Path, tmp_path: Path
) -> None:
    still = replace(config, work=str(tmp_path), loop=replace(config.loop, steps=1, lr=0.0))
    train_backbone(still)
    before = AutoModelForCausalLM.from_pretrained(tmp_path / "backbone").state_dict()
    after = AutoModelForCausalLM.from_pretrained(trained).state_dict()
    assert all(not torch.equal(before[name], after[name]) for name in before)


def test_any_text_is_encoded_without_loss_and_digits_stand_alone(trained: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(trained)
    for text in ("Plain words.", "Zürich, 東京 😀", "tabs\tand\nlines  ", "12345 x9", "'tis", ""):
        ids = tokenizer(text)["input_ids"]
        assert ids[0] == tokenizer.bos_token_id and tokenizer.eos_token_id not in ids
        decoded = tokenizer.decode(ids[1:])
        assert decoded == (" " + text if text else "")
    pieces = tokenizer.tokenize("In 12345 houses")
    assert {"1", "2", "3", "4", "5"} <= set(pieces)
    assert not any(len(re.findall(r"\d", piece)) > 1 for piece in tokenizer.get_vocab())


def test_a_word_is_the_same_tokens_at_the_start_and_inside(trained: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(trained)
    alone = tokenizer("river", add_special_tokens=False)["input_ids"]
    assert tokenizer("the river", add_special_tokens=False)["input_ids"][-len(alone) :] == alone
    after_marker = tokenizer("<|user|>river<|end|>", add_special_tokens=False)["input_ids"]
    assert after_marker[1:-1] == alone
    assert tokenizer("River", add_special_tokens=False)["input_ids"] != alone


def test_the_chat_template_and_the_encoder_of_training_agree(trained: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(trained)
    chat = [
        Message.user("Where is Tom?"),
        Message.assistant("at the door"),
        Message.user("Thanks"),
        Message.assistant("yes"),
    ]
    messages = [{"role": message.role, "content": message.text} for message in chat]
    ids, answer = next(ChatEncoder(tokenizer).chats([chat]))
    assert tokenizer.apply_chat_template(messages, return_dict=False) == ids
    assert tokenizer.decode([i for i, a in zip(ids, answer, strict=True) if a]) == " at the door<|end|> yes<|end|>"
    prompt = tokenizer.apply_chat_template(messages[:1], add_generation_prompt=True, return_dict=False)
    assert ids[: len(prompt)] == prompt and prompt[-1] == ids[len(prompt) - 1]
    with pytest.raises(Exception, match="roles are user and assistant"):
        tokenizer.apply_chat_template([{"role": "system", "content": "x"}])


def test_rows_leave_out_what_an_evaluation_says_and_the_held_out_pieces(config: BackboneConfig, trained: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(trained)
    rows = training_rows(config, tokenizer)
    text = tokenizer.decode(rows["text"].flatten().long(), skip_special_tokens=True)
    assert "green lamp" not in text and "said Tom" not in text  # the whole paragraph went
    train, held_out = book_pieces(Path(config.work) / "corpora" / "books-pd", held_out=0.2)
    assert train and held_out
    assert not {p for piece in train for p in piece} & {p for piece in held_out for p in piece}
    both = sorted(p for piece in train + held_out for p in piece)
    everything, nothing = book_pieces(Path(config.work) / "corpora" / "books-pd", held_out=0.0)
    assert both == sorted(p for piece in everything for p in piece) and not nothing
    assert rows["text"][:, 0].eq(tokenizer.bos_token_id).all()


def test_question_rows_mark_exactly_the_answers(config: BackboneConfig, trained: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(trained)
    rows = training_rows(config, tokenizer)
    ids, marks = rows["questions"].long(), rows["marks"]
    marked = tokenizer.decode(ids[marks == ANSWER]).split("<|end|>")[:-1]
    assert {a.strip() for a in marked} <= {a for answers in qa.ANSWERS.values() for a in answers}
    assert (ids[marks == 0] == tokenizer.pad_token_id).all()
    assert (marks == QUESTION).sum() > (marks == ANSWER).sum() > 0


def test_batches_depend_on_the_step_alone_and_visit_every_row(config: BackboneConfig, trained: Path) -> None:
    rows = training_rows(config, backbone_tokenizer(config))
    one, two = (Batches(config, rows, torch.device("cpu")) for _ in range(2))
    two(17)
    assert all(torch.equal(a, b) for a, b in zip(one(5), two(5), strict=True))
    assert one(0)[0].shape == (6, 48) and one(2)[0].shape == (3, 96)  # short steps cut rows in half
    num_rows = len(rows["text"])
    seen = {tuple(row.tolist()) for step in range(2, 2 + num_rows) for row in one(step)[0][: config.text_rows]}
    assert seen == {tuple(row) for row in rows["text"].tolist()}


def test_a_run_that_is_complete_is_not_trained_again(config: BackboneConfig, trained: Path) -> None:
    before = (trained / "model.safetensors").read_bytes()
    train_backbone(config)
    assert (trained / "model.safetensors").read_bytes() == before


def test_packing_keeps_sequences_whole_and_rows_full() -> None:
    ids, marks = packed_rows([([1, 2, 3], [1, 1, 2]), ([4, 5], [1, 2]), ([6] * 9, [1] * 9), ([7], [2])], 0, 4)
    assert ids.tolist() == [[1, 2, 3, 0], [4, 5, 7, 0]]
    assert marks.tolist() == [[1, 1, 2, 0], [1, 2, 2, 0]]
    assert stream_rows(ids.flatten(), 9, 4).tolist() == [[9, 1, 2, 3], [9, 0, 4, 5]]


@pytest.mark.parametrize("kind", list(qa.MADE_UP))
def test_made_up_questions_are_distinct_spoken_and_never_shared_with_the_test(kind: str) -> None:
    train = qa.make_up(kind, 1, 600, held_out=False)
    test = qa.make_up(kind, 2, 150, held_out=True)
    assert len(train) == 600 and len(test) >= 100
    assert not {q.text for q in train} & {q.text for q in test}
    assert train == qa.make_up(kind, 1, 600, held_out=False)
    for question in train + test:
        assert not re.search(r"\d", question.text + question.answer)
        assert question.answer in qa.ANSWERS[question.answer_type]


def test_sums_are_right_and_their_operands_held_out_in_every_wording() -> None:
    values = {word: n for n, word in enumerate(qa.NUMBERS)}
    number = "|".join(sorted(qa.NUMBERS, key=len, reverse=True))
    triples: dict[bool, set[tuple[int, int, int]]] = {False: set(), True: set()}
    for held_out in triples:
        for q in qa.make_up("arithmetic", 3, 400, held_out):
            if re.search(r"plus|How much|Add|gets|minus|Take|gave", q.text):
                a, b = (values[n] for n in re.findall(rf"\b(?:{number})\b", q.text)[:2])
                c = values[q.answer]
                if re.search(r"minus|gave", q.text):
                    assert a - b == c
                elif q.text.startswith("Take"):
                    a, b = b, a
                    assert a - b == c
                else:
                    assert a + b == c
                triples[held_out].add(tuple(sorted((a, b, c))))
    assert triples[True] and not triples[False] & triples[True]


def test_reading_answers_stand_in_the_context_and_new_names_never_in_training() -> None:
    train = qa.make_up("reading", 4, 500, held_out=False)
    test = qa.make_up("reading", 4, 500, held_out=True)
    new = {q.answer for q in test if q.kind == "new names"}
    assert new and {q.kind for q in test} == {"reading", "new names"} and {q.kind for q in train} == {"reading"}
    assert all(q.answer in q.text for q in train + test)
    assert not any(re.search(rf"\b{name}\b", q.text) for q in train for name in new)


def test_public_question_sets_keep_their_answers_and_parts(config: BackboneConfig, trained: Path) -> None:
    corpora = Path(config.work) / "corpora"
    trivia = list(qa.trivia(corpora / "opentriviaqa"))
    assert len(trivia) == 60 and {q.answer for q in trivia} == {"two"}
    assert trivia[0].text == "What is thing 0? one: a0; two: b0; three: c0; four: d0."
    assert {q.held_out for q in trivia} == {True, False}
    facts = list(qa.yes_or_no(corpora / "llm-adapters-qa" / "boolq"))
    assert [q.held_out for q in facts] == ["test" in q.text for q in facts]
    assert facts[0] == qa.Question("yes or no", "Is train thing 0 a thing?", "yes", "yes or no", False)
    mentions = list(qa.dialogue_mentions(corpora / "sgd-dialogues" / "dev.jsonl", held_out=True))
    assert mentions and all(q.answer in q.text for q in mentions)


def test_a_model_that_knows_nothing_has_the_vocabulary_as_its_perplexity(trained: Path) -> None:
    model, tokenizer = load_backbone(trained)
    torch.nn.init.zeros_(model.model.embed_tokens.weight)
    texts = ["Tom saw the river and the house.", "His sister ran."]
    for context, batch in ((8, 2), (64, 4)):
        with torch.inference_mode():
            found = perplexity(Subject(model, tokenizer), texts, context, batch)
        assert found.score == pytest.approx(400) == found.chance
        assert found.per_word == pytest.approx(math.exp(math.log(400) * found.count / 10))  # ten words


def test_a_model_that_learnt_one_answer_gives_it_and_is_scored_by_words(trained: Path) -> None:
    model, tokenizer = load_backbone(trained)
    asked = ["Who is at the door?", "Who is at the old door?", "Where is the river now?"]
    chats = [[{"role": "user", "content": t}, {"role": "assistant", "content": "the small house"}] for t in asked]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(40):
        for chat in chats:
            ids = torch.tensor([tokenizer.apply_chat_template(chat, return_dict=False)])
            model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    questions = [
        qa.Question("words", t, a, "word", True) for t, a in zip(asked, ("The small house.", "b", "b"), strict=True)
    ]
    found = ShortAnswers(questions, batch=2, max_tokens=8).measure(Subject(model, tokenizer))["own: words"]
    assert [words_key(a) for a in found.answers] == ["the small house"] * 3
    assert (found.score, found.chance, found.count) == (1 / 3, 2 / 3, 3)


def test_the_evaluation_covers_every_kind_with_held_out_questions(config: BackboneConfig, trained: Path) -> None:
    report = evaluation.evaluate_backbone(
        evaluation.EvaluateBackboneConfig(
            model=str(trained),
            data=config.data,
            work=config.work,
            context=96,
            num_dialogues=5,
            books_held_out=0.1,
            questions_per_kind=4,
        )
    )
    kinds = {"reading", "new names", "arithmetic", "words", "dialogue", "trivia", "yes or no"}
    assert set(report) == {f"own: {kind}" for kind in kinds} | {"perplexity: books", "perplexity: dialogues"}
    assert all(0 <= a.score <= 1 and a.count == 4 for name, a in report.items() if name.startswith("own"))
    written = json.loads((Path(config.work) / "backbone-report.json").read_text())
    answers = [text for part in written["tasks"].values() for text in part["answers"]]
    assert len(answers) == len(written["questions"]) == 28 and all(row["held_out"] for row in written["questions"])


def test_a_folder_without_a_model_is_refused_with_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(VoicegraftError, match="expected the folder of a text LLM"):
        load_backbone(tmp_path)
