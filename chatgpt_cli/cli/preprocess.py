"""`chatgpt preprocess`: raw text to tokenizer, token shards and a data report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from chatgpt_cli.cli.named_files import require_files
from chatgpt_cli.cli.output import Output
from chatgpt_cli.cli.project import ConfigOption, JsonOption, SetOption, open_project
from chatgpt_cli.command_line import same_run

if TYPE_CHECKING:
    from chatgpt_cli.data.parts.machine import Machine


def preprocess(
    config: ConfigOption = None,
    set_: SetOption = None,
    force: Annotated[bool, typer.Option("--force", help="Do it again in any case.")] = False,
    nodes: Annotated[
        int, typer.Option("--nodes", min=1, help="Machines that share the work, and the files.")
    ] = 1,
    node_rank: Annotated[
        int, typer.Option("--node-rank", min=0, help="Which of them this is, from 0.")
    ] = 0,
    json_output: JsonOption = False,
) -> None:
    """Read the texts of data.sources, train the tokenizer, and write token shards."""
    project = open_project(config, set_ or [], json_output=json_output)
    from chatgpt_cli.data.preprocess import help_preprocess
    from chatgpt_cli.data.preprocess import preprocess as run
    from chatgpt_cli.lock import run_lock
    from chatgpt_cli.provenance import write_record
    from chatgpt_cli.reproduction.record import text_files, text_session, write_settings

    require_files(project, "data", "sources", "validation_sources")
    output, paths = project.output, project.paths
    tokenizer, start = None, project.config.model.from_
    if start is not None:
        from chatgpt_cli.interop.huggingface import load_tokenizer
        from chatgpt_cli.interop.locate import resolve_model

        tokenizer = load_tokenizer(resolve_model(start))
        output.line(f"Taking the tokenizer of {start}")
    machine = _machine(nodes, node_rank, force=force)
    if machine.number:
        help_preprocess(
            project.config, paths, machine=machine, tell=output.line, tokenizer=tokenizer
        )
        output.success("This machine's share is done; machine 0 makes the shards of all shares.")
        return
    with run_lock(paths.root, "preprocess"):
        result = run(
            project.config,
            paths,
            force=force,
            tell=output.line,
            tokenizer=tokenizer,
            machine=machine,
            record=lambda folder: write_record(
                folder, [text_session(project.config, text_files(project.config))]
            ),
        )
        write_settings(paths, project.config)
    if json_output:
        output.json({**result.manifest, "fresh": result.fresh})
    if result.fresh:
        _show(output, result.manifest)
        output.success(f"Tokenizer and token shards are in {paths.root}")
    else:
        output.success("Nothing changed since the last time; there is nothing to do.")
    if result.manifest["splits"]["validation"]["tokens"]:
        output.next_step(f"Next: chatgpt {same_run('pretrain')}")


def _machine(nodes: int, node_rank: int, *, force: bool) -> Machine:
    from chatgpt_cli.data.parts.machine import Machine
    from chatgpt_cli.errors import ConfigError

    if node_rank >= nodes:
        raise ConfigError(
            f"--node-rank {node_rank} is not one of {nodes} machines",
            remedy=f"Machines are numbered from 0 to {nodes - 1}; --nodes says how many there are.",
        )
    if force and nodes > 1:
        raise ConfigError(
            "--force works with one machine",
            remedy="With several, delete the folders data and parts of the run directory first.",
        )
    return Machine(node_rank, nodes)


def _show(output: Output, manifest: dict[str, Any]) -> None:
    report = manifest["report"]
    output.table(
        "Text",
        ["split", "documents", "bytes", "tokens", "bytes per token"],
        [
            [
                name,
                f"{split['documents']:,}",
                f"{split['bytes']:,}",
                f"{split['tokens']:,}",
                f"{split['bytes'] / max(split['tokens'], 1):.2f}",
            ]
            for name, split in manifest["splits"].items()
        ],
    )
    output.table(
        f"Languages (vocabulary of {report['vocab_size']:,})",
        ["language", "documents", "bytes per token", "unknown", "byte fallback"],
        [
            [
                name,
                f"{row['documents']:,}",
                f"{row['bytes_per_token']:.2f}",
                f"{row['unknown_share']:.3%}",
                f"{row['byte_fallback_share']:.3%}",
            ]
            for name, row in report["languages"].items()
        ],
    )
    output.table(
        "Length of documents in tokens",
        ["at most", "documents"],
        [[f"{int(most):,}", f"{count:,}"] for most, count in report["lengths"].items()],
    )
    if not manifest["splits"]["validation"]["tokens"]:
        output.warn(
            "No document was kept aside for validation, so no model can be trained. With few "
            "documents set data.split: tail, which keeps the end of the text aside; or give the "
            "source a separator that divides it into documents."
        )
    if aside := report.get("kept_aside"):
        output.line("Kept aside to validate with, and not learnt: " + ", ".join(aside))
    if report["rejected"]:
        output.table(
            "Left out by data.languages and data.filters",
            ["rule", "documents", "for example"],
            [
                [rule, f"{entry['documents']:,}", entry["examples"][0]["text"]]
                for rule, entry in report["rejected"].items()
            ],
        )
    names = ("duplicates", "near duplicates", "too short")
    left_out = [f"{report[name]:,} {name}" for name in names if report.get(name)]
    left_out += [f"{count:,} {kind}" for kind, count in report["problems"].items()]
    if left_out:
        output.line("Left out: " + ", ".join(left_out))
    for line in report["skipped"]:
        output.warn(line)
    if report.get("cut"):
        output.line(f"{report['cut']:,} documents are pieces of longer ones (data.max_chars)")
