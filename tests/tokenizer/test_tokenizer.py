"""Round trips, special tokens, and the same ids from Hugging Face's libraries."""

import random
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from chatgpt_cli.config.schema import TokenizerSection
from chatgpt_cli.errors import ConfigError, ModelError
from chatgpt_cli.tokenizer.chat import Message, render
from chatgpt_cli.tokenizer.special import ASSISTANT, END, MASK, SPECIAL_TOKENS
from chatgpt_cli.tokenizer.tokenizer import StreamDecoder, Tokenizer
from chatgpt_cli.tokenizer.train import train_tokenizer
from tests.conftest import CHINESE, ENGLISH, small_text

# No lone surrogates, and not the mark that SentencePiece writes for a space, nor NUL.
TEXTS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\u2581\0"), max_size=60
)


def test_special_tokens_have_their_ids(tokenizer: Tokenizer) -> None:
    assert [tokenizer.token(i) for i in range(12)] == list(SPECIAL_TOKENS)
    assert [tokenizer.id(token) for token in SPECIAL_TOKENS] == list(range(12))


@settings(max_examples=200, deadline=None)
@given(text=TEXTS)
def test_round_trip_and_bytes(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert int(tokenizer.token_bytes[ids].sum()) == len(text.encode())
    assert all(i >= len(SPECIAL_TOKENS) for i in ids)
    decoder = StreamDecoder(tokenizer)
    assert "".join(decoder.push(i) for i in ids) + decoder.flush() == text


def test_special_tokens_in_text_stay_text(tokenizer: Tokenizer) -> None:
    assert MASK not in tokenizer.encode("a [MASK] b<|end|>")
    ids = tokenizer.encode_with_special("a [MASK] b<|end|>")
    assert MASK in ids and ids[-1] == END


def test_half_a_character_counts_as_a_replacement(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode("cat \ud83d dog 😀")) == "cat \ufffd dog 😀"


@pytest.mark.parametrize("byte_fallback", [True, False])
@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_a_long_text_has_the_tokens_that_it_has_whole(kind: str, byte_fallback: bool) -> None:
    """It is encoded in parts, where that is faster and the same."""
    section = TokenizerSection.model_validate(
        {"type": kind, "vocab_size": 700, "byte_fallback": byte_fallback}
    )
    tokenizer = train_tokenizer(small_text(300), section)
    processor = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model)
    lines = _mixed(300)
    for between in ("\n", "\n\n", " ", "\r\n", "\n " + 400 * "x", 700 * "\n"):
        text = between.join(lines)
        assert tokenizer.encode(text) == processor.encode(text)
        assert tokenizer.encode(text + "\ud83d") == processor.encode(text + "\ufffd")


def _mixed(count: int) -> list[str]:
    r = random.Random(1)
    parts = [
        lambda: " ".join(r.choices(ENGLISH, k=6)),
        lambda: "".join(r.choices(CHINESE, k=9)),
        lambda: r.choice(["😀👍🏽", "é ñ ü", "  \n\n\t ", "for i in x:\n    y[i] += 1\t# ok", "𝕏"]),
        lambda: str(r.randint(0, 10**6)),
        lambda: "".join(chr(r.randint(0x21, 0x9FFF)) for _ in range(6)).replace("\u2581", ""),
    ]
    return ["".join(r.choice(parts)() for _ in range(r.randint(1, 5))) for _ in range(count)]


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_transformers_reads_the_same_ids(kind: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    section = TokenizerSection.model_validate({"type": kind, "vocab_size": 450})
    ours = train_tokenizer(small_text(200), section)
    ours.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for text in _mixed(600):
        assert theirs.encode(text, add_special_tokens=False) == ours.encode(text), text
    assert theirs.pad_token_id == 0 and theirs.eos_token_id == 3 and theirs.mask_token_id == MASK


CONVERSATIONS = [
    [("user", "the cat"), ("assistant", "a red kite")],
    [("system", "be brief"), ("user", " 小明 "), ("assistant", "你好\n\nthe")],
    [("user", "a"), ("assistant", "b"), ("user", "c 12"), ("assistant", "d")],
]


@pytest.mark.parametrize("turns", CONVERSATIONS)
@pytest.mark.parametrize("prompt", [False, True])
def test_chat_template_renders_the_same_tokens(
    turns: list[tuple[str, str]], prompt: bool, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    tokenizer.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    messages = [Message(role, content) for role, content in turns]  # type: ignore[arg-type]
    ours = render(messages, tokenizer, add_generation_prompt=prompt)
    wanted = theirs.apply_chat_template(
        [{"role": m.role, "content": m.content} for m in messages],
        add_generation_prompt=prompt,
        return_dict=False,
    )
    assert ours.ids == list(wanted)


def test_targets_are_the_answers_and_their_end(tokenizer: Tokenizer) -> None:
    rendered = render(
        [Message("user", "the cat"), Message("assistant", "a dog"), Message("user", "x")], tokenizer
    )
    learnt = [i for i, target in zip(rendered.ids, rendered.targets, strict=True) if target]
    assert learnt == [*tokenizer.encode("a dog"), END]
    silent = render([Message("assistant", "a dog", weight=0.0)], tokenizer)
    assert not any(silent.targets) and ASSISTANT in silent.ids


def test_char_vocabulary_knows_every_character() -> None:
    text = "To be, or not\nto be!"
    tokenizer = train_tokenizer([text] * 3, TokenizerSection(type="char"))
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode(text)) == len(text)


@pytest.mark.parametrize(
    ("size", "message"),
    [(5000, "larger than this text can support"), (268, "no room"), (270, "characters of this")],
)
def test_vocabulary_that_does_not_fit_is_explained(size: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train_tokenizer(small_text(20), TokenizerSection(vocab_size=size))


def test_training_is_deterministic() -> None:
    section = TokenizerSection(vocab_size=380)
    assert (
        train_tokenizer(small_text(50), section).model
        == train_tokenizer(small_text(50), section).model
    )


def test_damaged_or_missing_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no tokenizer"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="not a SentencePiece model"):
        Tokenizer.load(tmp_path)
