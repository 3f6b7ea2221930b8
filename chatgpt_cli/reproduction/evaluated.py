"""provenance.json of an evaluation: settings, environment, model, and the rows and text scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chatgpt_cli.checkpoints import name_of, step_of
from chatgpt_cli.config.paths import RunPaths
from chatgpt_cli.config.schema import Config
from chatgpt_cli.data.shards import read_manifest
from chatgpt_cli.errors import DataError
from chatgpt_cli.evaluation.classification import HELD_OUT
from chatgpt_cli.files import sha256
from chatgpt_cli.interop.huggingface import weights_hash
from chatgpt_cli.reproduction.record import (
    Session,
    environment,
    hashes,
    row_files,
    write_record,
    write_settings,
)


def record_evaluation(
    paths: RunPaths, config: Config, content: dict[str, Any], chosen: dict[str, str | int]
) -> None:
    """Write evaluate/provenance.json, and the settings into the run's config.yaml.

    Args:
        paths: the run.
        config: the project as it was evaluated.
        content: what results.json holds.
        chosen: device and precision; see `Hardware.chosen`.

    Raises:
        DataError: if a file that was scored has gone meanwhile.
    """
    folder = Path(content["model"])
    is_checkpoint = folder.name == name_of(step := _step(folder))
    model = {
        "folder": str(folder),
        "stage": content["stage"],
        "step": step if is_checkpoint else None,
        "sha256": weights_hash(folder),
    }
    session = Session(
        step=step,
        config=config.model_dump(mode="json", by_alias=True),
        folder=str(Path.cwd()),
        environment=environment() | chosen,
        files=scored_files(config, paths, content),
        model=model,
    )
    write_record(paths.evaluate, [session])
    write_settings(paths, config)


def _step(folder: Path) -> int:
    try:
        return step_of(folder)
    except ValueError:
        return 0


def scored_files(config: Config, paths: RunPaths, content: dict[str, Any]) -> dict[str, str]:
    """The files of the tasks and of the held-out data that were scored, with their hashes.

    Raises:
        DataError: if one is missing.
    """
    tasks, held_out = content["tasks"], content["held_out"]
    files = hashes(task.data for task in config.evaluate.tasks if task.name in tasks)
    if held_out is not None and held_out["data"] == "held-out text":
        files |= _shards(paths.data)
    elif held_out is not None or HELD_OUT in tasks:
        files |= row_files(config, "finetune")
    return files


def _shards(folder: Path) -> dict[str, str]:
    shards = read_manifest(folder)["splits"]["validation"]["shards"]
    found = {}
    for shard in shards:
        path = folder / Path(str(shard["file"])).name
        try:
            found[f"{folder.name}/{path.name}"] = sha256(path)
        except OSError as error:
            raise DataError(
                f"the file cannot be read ({error.strerror})", place=str(path)
            ) from error
    return found
