"""`chatgpt export`: the model as other programs read it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from chatgpt_cli.cli import model_options as options
from chatgpt_cli.cli.project import ConfigOption, JsonOption, SetOption, open_project
from chatgpt_cli.command_line import same_run
from chatgpt_cli.errors import ConfigError


def export(
    config: ConfigOption = None,
    set_: SetOption = None,
    format: Annotated[
        Literal["gguf", "huggingface"],
        typer.Option(
            help="gguf: one file for llama.cpp. huggingface: a folder for transformers, with "
            "an adapter merged in (a model without one is such a folder already)."
        ),
    ] = "gguf",
    quant: Annotated[
        Literal["f32", "f16", "bf16", "q8_0", "q4_0"],
        typer.Option(help="The numbers in a .gguf file: q8_0 takes half of f16, q4_0 a quarter."),
    ] = "f16",
    to: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Where to write; left out, in the run directory."),
    ] = None,
    model: options.ModelOption = None,
    stage: options.StageOption = "auto",
    json_output: JsonOption = False,
) -> None:
    """Write the model as a .gguf file or a merged Hugging Face folder."""
    project = open_project(config, set_ or [], json_output=json_output)
    from chatgpt_cli.files import atomic_path
    from chatgpt_cli.interop.gguf_writer import write_gguf
    from chatgpt_cli.interop.huggingface import load_model, save_model
    from chatgpt_cli.interop.locate import locate_model
    from chatgpt_cli.model.quantized import expand

    base = project.config.model.from_
    located = locate_model(project.paths, model=model, stage=stage, base=base)
    name = project.paths.root.name
    if model is not None:
        # A folder's name may have a dot in it, as in Qwen2.5.
        name = located.folder.stem if located.folder.is_file() else located.folder.name
    file = f"{name}-{quant}.gguf" if format == "gguf" else name
    target = to or project.paths.root / "export" / file
    if format == "huggingface" and target.exists():
        raise ConfigError(
            "there is something already", place=str(target), remedy="Choose another with --to."
        )
    loaded = load_model(located.folder)
    expand(loaded.model)
    if format == "gguf":
        write_gguf(loaded, target, quantization=quant, name=name)
    else:
        with atomic_path(target) as folder:
            save_model(loaded.model, loaded.tokenizer, folder, stage=located.trained_by)
    files = [target] if target.is_file() else [p for p in target.iterdir() if p.is_file()]
    size = sum(path.stat().st_size for path in files)
    if json_output:
        project.output.json(
            {"model": str(located.folder), "format": format, "path": str(target), "bytes": size}
        )
    project.output.success(f"{target} ({size / 1e6:,.1f} MB), from {located.folder}")
    project.output.next_step(f"Next: chatgpt {same_run('chat', '--model', target)}")
