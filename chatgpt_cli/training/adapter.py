"""The adapter that a stage trains instead of the whole model."""

from __future__ import annotations

from pathlib import Path

from chatgpt_cli.config.schema import Config, LoraSection
from chatgpt_cli.errors import ConfigError
from chatgpt_cli.interop.locate import Located, resolve_model
from chatgpt_cli.model.lora import Adapter, adapter_weights
from chatgpt_cli.model.quantized import quantized_weights
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.tokenizer.tokenizer import Tokenizer


def new_adapter(
    section: LoraSection, located: Located, config: Config, tokenizer: Tokenizer
) -> Adapter:
    """What is to be trained; a name such as smollm2 stays one, a folder gets its whole path."""
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
        tokens=tuple(sorted(tokenizer.special_ids)) if unseen else (),
    )


def trained_share(model: Transformer) -> str:
    """How much is trained, for the user."""
    small = sum(parameter.numel() for parameter in adapter_weights(model).values())
    return (
        f"Adapter: {small:,} parameters are trained, {small / model.config.num_parameters():.1%} "
        "of the model's"
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
