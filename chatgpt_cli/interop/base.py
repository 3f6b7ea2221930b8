"""The model a project begins with: of its own shape, or one that was trained elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chatgpt_cli.config.model import ModelConfig
from chatgpt_cli.config.schema import ModelSection
from chatgpt_cli.errors import ConfigError
from chatgpt_cli.interop.architectures import has_counterpart
from chatgpt_cli.interop.locate import resolve_model

if TYPE_CHECKING:
    from chatgpt_cli.interop.huggingface import LoadedModel


def project_shape(section: ModelSection, *, vocab_size: int) -> ModelConfig:
    """The shape of a project's model.

    Args:
        section: what the user chose.
        vocab_size: that of the project's tokenizer; a model to start from has its own.

    Raises:
        ModelError: if the model to start from is missing or not supported.
        ConfigError: if its context is shorter than the one asked for.
    """
    if section.from_ is None:
        return section.build(vocab_size=vocab_size)
    # Here and below: a shape of one's own is known without importing torch.
    from chatgpt_cli.interop.huggingface import read_config

    return limited(read_config(resolve_model(section.from_)), section)


def starting_model(section: ModelSection) -> LoadedModel | None:
    """The model to start from, with its tokenizer; None if the project makes its own.

    Raises:
        ModelError, ConfigError: as `project_shape`.
    """
    if section.from_ is None:
        return None
    from chatgpt_cli.interop.huggingface import load_model, read_config

    path = resolve_model(section.from_)
    return load_model(path, config=limited(read_config(path), section))


def limited(shape: ModelConfig, section: ModelSection) -> ModelConfig:
    """The shape of a model to start from, with the context and dropout that the user set.

    Raises:
        ConfigError: if the context is longer than the model's.
    """
    changes: dict[str, object] = {}
    if section.from_ is None:
        return shape
    if section.dropout is not None:
        changes["dropout"] = section.dropout
    if section.context_length is not None:
        if section.context_length > shape.context_length:
            raise ConfigError(
                f"model.context_length is {section.context_length:,}, but the model that "
                f"model.from names has learnt {shape.context_length:,}"
            )
        if shape.positions != "learned":  # a table of positions cannot be cut
            changes["context_length"] = section.context_length
    return shape.model_copy(update=changes)


def limitation(shape: ModelConfig) -> str | None:
    """What the user should know of a choice that other programs do not have."""
    if has_counterpart(shape) is not None:
        return None
    return (
        "No architecture of transformers has this combination of norm, positions, MLP, qk_norm "
        "and bias: the model will be readable by chatgpt only."
    )


def require_writer(shape: ModelConfig, place: str) -> None:
    """Refuse a model that cannot write answers.

    Raises:
        ConfigError: if it is masked, or a classifier.
    """
    if shape.causal and not shape.labels:
        return
    kind = "is a classifier" if shape.labels else "is bidirectional (masked)"
    raise ConfigError(
        f"the model {kind}: it cannot write answers",
        place=place,
        remedy="Train from a causal model that finetuning made an assistant of.",
    )
