"""What the commands that speak have in common: which model, and how to draw from it."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from chatgpt_cli.cli.project import Project
from chatgpt_cli.command_line import same_run
from chatgpt_cli.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from chatgpt_cli.config.schema import FinetuneTask
    from chatgpt_cli.generation.engine import Engine
    from chatgpt_cli.interop.huggingface import LoadedModel
    from chatgpt_cli.interop.locate import Stage
    from chatgpt_cli.model.inference import InferenceModel

ModelOption = Annotated[
    Path | None,
    typer.Option(
        "--model",
        metavar="DIR",
        help="Another model than this run's: a folder, a .gguf file, a Hugging Face name, smollm2.",
    ),
]
StageOption = Annotated[
    Literal["auto", "pretrain", "finetune", "prefer", "reinforce"],
    typer.Option(help="Which of the run's models; auto takes that of the last stage."),
]
MaxTokensOption = Annotated[
    int | None, typer.Option(min=1, help="Tokens to write at most.", show_default=False)
]
TemperatureOption = Annotated[
    float | None,
    typer.Option(min=0, help="0 takes the most probable token each time.", show_default=False),
]
TopKOption = Annotated[
    int | None,
    typer.Option(min=0, help="Draw from the K most probable tokens.", show_default=False),
]
TopPOption = Annotated[
    float | None,
    typer.Option(
        min=0.0001, max=1, help="Draw from the tokens that make up P together.", show_default=False
    ),
]
MinPOption = Annotated[
    float | None,
    typer.Option(
        min=0, max=1, help="Leave out what is less than P times the best.", show_default=False
    ),
]
RepetitionPenaltyOption = Annotated[
    float | None,
    typer.Option(
        min=0.0001, help="Above 1: what was said becomes less probable.", show_default=False
    ),
]
StopOption = Annotated[
    list[str] | None,
    typer.Option(metavar="TEXT", help="End before this text. Can be repeated.", show_default=False),
]
SeedOption = Annotated[
    int | None, typer.Option(min=0, help="The same seed, the same text.", show_default=False)
]
QuantizeOption = Annotated[
    Literal["none", "int8", "int4"] | None,
    typer.Option(help="Weights in 8 or 4 bits: faster, a little less exact.", show_default=False),
]
DraftOption = Annotated[
    str | None,
    typer.Option(
        metavar="DIR",
        help="A smaller model with the same tokenizer that guesses ahead: the same text, faster.",
        show_default=False,
    ),
]

# On a CPU, smaller models are fast in float32 too: their weights stay in the cache.
_LARGE_MODEL = 50_000_000


@dataclass(frozen=True)
class OpenModel:
    """A model on its device, where it lies, and the stage of training it comes from."""

    loaded: LoadedModel
    folder: Path
    stage: str
    # What finetuning taught it, if that made it.
    task: FinetuneTask = "chat"

    @property
    def converses(self) -> bool:
        """Whether this run made an assistant of it."""
        if self.stage == "finetune" and self.task == "language_modeling":
            return False
        return self.stage in ("finetune", "prefer", "reinforce")


def open_model(project: Project, *, model: Path | None, stage: Stage) -> OpenModel:
    """Find and load the model that a command is to use.

    Raises:
        ModelError: if there is none, or it cannot be read.
    """
    import torch

    from chatgpt_cli.interop.huggingface import load_model, read_config
    from chatgpt_cli.interop.locate import locate_model
    from chatgpt_cli.training.device import choose_hardware

    base = project.config.model.from_
    located = locate_model(project.paths, model=model, stage=stage, base=base)
    shape = read_config(located.folder)
    wanted = project.config.hardware
    hardware = choose_hardware(wanted, context_length=shape.context_length)
    dtype = hardware.dtype
    small = hardware.device.type == "cpu" and shape.num_parameters() < _LARGE_MODEL
    # The weights of a .gguf file were rounded already; once more would change answers.
    if wanted.precision == "auto" and (small or located.folder.is_file()):
        dtype = torch.float32
    loaded = load_model(located.folder, device=hardware.device, dtype=dtype)
    loaded.model.set_attention(hardware.attention)
    return OpenModel(loaded, located.folder, located.stage, project.config.finetune.task)


def unfinished(project: Project, opened: OpenModel) -> str | None:
    """That the stage of the run's own model has not come to its end, and which step this is."""
    from chatgpt_cli.checkpoints import step_of
    from chatgpt_cli.config.paths import STAGES
    from chatgpt_cli.runs import stage_progress

    name = next((one for one in STAGES if one == opened.stage), None)
    if name is None:
        return None
    stage = project.paths.stage(name)
    now = stage_progress(stage)
    if now is None or now.finished or opened.folder.parent != stage.checkpoints:
        return None
    return (
        f"This is the model of step {step_of(opened.folder):,}: {name} has not ended; it stands "
        f"at step {now.step:,}, and its budget is {getattr(project.config, name).budget}. "
        f"Go on with it: chatgpt {same_run(name, '--resume')}"
    )


def warn_if_unfinished(project: Project, opened: OpenModel) -> None:
    """Tell who talks to a model that its training was stopped, or goes on."""
    if said := unfinished(project, opened):
        project.output.warn(said)


def open_engine(
    project: Project,
    opened: OpenModel,
    quantize: Literal["none", "int8", "int4"] | None,
    draft: str | None,
    *,
    build: bool,
) -> Engine:
    """The model, ready to write for one user; for `build` see `compiled_code`."""
    from chatgpt_cli.generation.engine import Engine

    kind = quantize or project.config.generate.quantize
    library = compiled_code(project, opened, build=build)
    guesser = open_draft(project, opened, draft, library)
    return Engine.of(
        opened.loaded.model, opened.loaded.tokenizer, kind, library=library, draft=guesser
    )


def open_draft(
    project: Project, opened: OpenModel, draft: str | None, library: ctypes.CDLL | None
) -> InferenceModel | None:
    """The model that guesses ahead, if there is to be one.

    Raises:
        ModelError: if it cannot be read or does not write.
        ConfigError: if its tokens are not the model's.
    """
    named = draft or project.config.generate.draft
    if named is None:
        return None
    from chatgpt_cli.config.paths import STAGES
    from chatgpt_cli.interop.huggingface import load_model
    from chatgpt_cli.interop.locate import locate_named
    from chatgpt_cli.model.inference import InferenceModel

    folder = locate_named(named, next((s for s in STAGES if s == opened.stage), "auto"))
    weight = opened.loaded.model.output_weight
    loaded = load_model(folder, device=weight.device, dtype=weight.dtype)
    require_speech(OpenModel(loaded, folder, "model"))
    if (
        loaded.tokenizer.hash != opened.loaded.tokenizer.hash
        or loaded.config.vocab_size != opened.loaded.config.vocab_size
    ):
        raise ConfigError(
            f"the draft model {folder} has another tokenizer than {opened.folder}",
            place="generate.draft",
            remedy="A draft must be trained with the same one (tokenizer.path).",
        )
    return InferenceModel(loaded.model, library=library)


def compiled_code(project: Project, opened: OpenModel, *, build: bool) -> ctypes.CDLL | None:
    """What writes faster on a CPU, unless the user does not want anything compiled.

    Args:
        build: whether so much will be written that the first compilation's seconds pay.
    """
    from chatgpt_cli.model.native.library import load_library

    if project.config.hardware.compile is False:
        return None
    return load_library(opened.loaded.model.output_weight.device, build=build)


def system_prompt(project: Project, stage: str) -> str | None:
    """What a conversation begins with: as configured, else as in finetuning."""
    config = project.config
    if config.generate.system_prompt is not None or stage in ("pretrain", "model"):
        return config.generate.system_prompt
    return config.finetune.system_prompt


def require_speech(opened: OpenModel) -> None:
    """Refuse a masked model or a classifier where text is to be written.

    Raises:
        ModelError: naming the command that suits the model.
    """
    if opened.loaded.config.labels:
        raise ModelError(
            "this is a classifier: it names a label, it cannot converse",
            place=str(opened.folder),
            remedy=f"Try `chatgpt {same_run('generate', 'A text')}`, which prints the label.",
        )
    if not opened.loaded.config.causal:
        raise ModelError(
            "this is a masked model: it fills [MASK], it cannot converse",
            place=str(opened.folder),
            remedy=f"Try `chatgpt {same_run('generate', 'The [MASK] is blue.')}`",
        )
