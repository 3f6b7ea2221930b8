"""What a stage after pretraining goes on from: an earlier model, or its own checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from chatgpt_cli.config.model import ModelConfig
from chatgpt_cli.config.paths import StageName
from chatgpt_cli.config.schema import Config, LoraSection
from chatgpt_cli.data.batch import BatchSource
from chatgpt_cli.interop.base import limited
from chatgpt_cli.interop.huggingface import LoadedModel, load_model, read_config, weights_hash
from chatgpt_cli.interop.locate import Located
from chatgpt_cli.model.lora import add_adapter
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.training.adapter import new_adapter, require_trainable, trained_share
from chatgpt_cli.training.checkpoint import Saved
from chatgpt_cli.training.events import Note, Observer


@dataclass(frozen=True)
class Base:
    """The model of an earlier stage, or the one that the project starts from.

    Attributes:
        located: where it lies.
        loaded: the model, with context and dropout as the project has them, and its tokenizer.
    """

    located: Located
    loaded: LoadedModel

    @classmethod
    def load(cls, located: Located, config: Config) -> Self:
        """Read it.

        Raises:
            ModelError: if a file is missing or damaged.
            ConfigError: if the project wants a longer context than it has.
        """
        shape = limited(read_config(located.folder), config.model)
        return cls(located, load_model(located.folder, config=shape))

    def fingerprint(
        self, config: Config, shape: ModelConfig, lora: LoraSection | None, train: BatchSource
    ) -> dict[str, object]:
        """What a continuation of the stage may not change (see `open_stage`)."""
        found: dict[str, object] = {
            "model": shape.model_dump(exclude={"dropout"}),
            "tokenizer": self.loaded.tokenizer.hash,
            "base": weights_hash(self.located.folder),
            "seed": config.seed,
            "train": train.fingerprint(),
        }
        if lora is not None:
            found["lora"] = lora.model_dump(mode="json", exclude_none=True)
        return found

    def to_train(
        self,
        stage: StageName,
        config: Config,
        model: Transformer,
        lora: LoraSection | None,
        start: Saved | None,
        observe: Observer,
        unread: Sequence[int] = (),
    ) -> Transformer:
        """The checkpoint's model where the stage goes on, else `model`, with a new adapter if
        one is to be trained.

        Args:
            stage: the stage.
            config: the project.
            model: this one, or what was made of it.
            lora: the adapter's settings.
            start: see `open_stage`.
            observe: told how much is trained.
            unread: tokens that the model is new to, besides the special ones.

        Raises:
            ConfigError: if its weights cannot be trained.
        """
        if start is not None:
            model = load_model(start.folder, config=model.config, merge=False).model
        elif lora is not None:
            adapter = new_adapter(lora, self.located, config, self.loaded.tokenizer, unread)
            add_adapter(model, adapter, seed=config.seed)
        require_trainable(model, self.located.folder, stage)
        if model.adapter is not None:
            observe(Note(trained_share(model)))
        return model
