"""The adapter that a stage trains instead of the whole model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from chatgpt_cli.config.paths import RunPaths
from chatgpt_cli.config.schema import Config, LoraSection
from chatgpt_cli.data.shards import TokenShards
from chatgpt_cli.errors import ConfigError, DataError
from chatgpt_cli.interop.locate import Located, resolve_model
from chatgpt_cli.model.lora import Adapter, adapter_weights
from chatgpt_cli.model.quantized import quantized_weights
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.tokenizer.tokenizer import Tokenizer


def unread_tokens(
    used: np.ndarray, paths: RunPaths, located: Located, tokenizer: Tokenizer
) -> list[int]:
    """Which tokens of the rows the base has never read; none if its text is not at hand.

    Args:
        used: (tokens,) int, those of the rows, each once.
        paths: the run, which holds its own pretraining's text.
        located: the base.
        tokenizer: the base's.
    """
    if located.stage != "pretrain":
        return []
    try:
        shards = TokenShards.open(paths.data, "train")
    except DataError:
        return []
    if shards.tokenizer_sha256 != tokenizer.hash:
        return []
    unread: list[int] = used[shards.counts(tokenizer.vocab_size)[used] == 0].tolist()
    return unread


def new_adapter(
    section: LoraSection,
    located: Located,
    config: Config,
    tokenizer: Tokenizer,
    unread: Sequence[int],
) -> Adapter:
    """What is to be trained; a name such as smollm2 stays one, a folder gets its whole path.

    Args:
        section: the adapter's settings.
        located: the base.
        config: the project.
        tokenizer: the base's.
        unread: see `unread_tokens`.
    """
    named, base = config.model.from_, located.folder
    unseen = section.special_tokens
    if unseen is None:
        unseen = located.stage == "pretrain"
    is_name = named is not None and not Path(named).exists() and resolve_model(named) == base
    return Adapter(
        rank=section.rank,
        alpha=section.alpha,
        dropout=section.dropout,
        targets=tuple(section.targets),
        base=str(named) if is_name else str(base.resolve()),
        tokens=tuple(sorted({*tokenizer.special_ids, *unread})) if unseen else (),
    )


def trained_share(model: Transformer) -> str:
    """How much is trained, for the user."""
    small = sum(parameter.numel() for parameter in adapter_weights(model).values())
    share = small / model.config.num_parameters()
    tokens = model.adapter.tokens if model.adapter is not None else ()
    if not tokens:
        return f"Adapter: {small:,} parameters are trained, {share:.1%} of the model's"
    return (
        f"Adapter: {small:,} parameters are trained, {share:.1%} of the model's, among them the "
        f"vectors of {len(tokens):,} tokens that the base has not seen"
    )


def require_trainable(model: Transformer, base: Path, stage: str) -> None:
    """Refuse to train the weights of a quantized model themselves.

    Raises:
        ConfigError: naming what can be done instead.
    """
    if quantized_weights(model) and model.adapter is None:
        raise ConfigError(
            "the weights of this model are whole numbers, which cannot be trained",
            place=str(base),
            remedy=f"Train an adapter beside them ({stage}.lora), or start from the model that "
            "was quantized.",
        )
