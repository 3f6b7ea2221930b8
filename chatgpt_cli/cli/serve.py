"""`chatgpt serve`: the model behind an OpenAI-compatible HTTP interface."""

from __future__ import annotations

import os
import signal
import socket
from typing import Annotated

import typer

from chatgpt_cli.cli import model_options as options
from chatgpt_cli.cli.project import ConfigOption, SetOption, open_project
from chatgpt_cli.errors import ChatGPTError, ConfigError


def serve(
    config: ConfigOption = None,
    set_: SetOption = None,
    model: options.ModelOption = None,
    stage: options.StageOption = "auto",
    host: Annotated[
        str | None,
        typer.Option(help="Address to listen on; 0.0.0.0 for all.", show_default=False),
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="0 takes a free one.", show_default=False)
    ] = None,
    api_key: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY",
            help="Let only those in who send it. Can be repeated; also CHATGPT_API_KEY.",
            show_default=False,
        ),
    ] = None,
    quantize: options.QuantizeOption = None,
    draft: options.DraftOption = None,
) -> None:
    """Serve the model: OpenAI's interface at /v1, a page to chat on at /.

    Ctrl-C or SIGTERM lets the requests under way end, then the server.
    """
    project = open_project(config, set_ or [], json_output=False)
    try:
        import uvicorn

        from chatgpt_cli.serving.app import build_app
        from chatgpt_cli.serving.service import Service
    except ImportError as error:
        raise ConfigError(
            f"serving needs the package {error.name}",
            remedy="Install it with `pip install 'chatgpt-cli[serve]'`.",
        ) from None

    section = project.config.serve
    keys = [*section.api_keys, *(api_key or [])]
    if environment := os.environ.get("CHATGPT_API_KEY"):
        keys.append(environment)
    settings = section.model_copy(
        update={
            "host": section.host if host is None else host,
            "port": section.port if port is None else port,
            "api_keys": keys,
        }
    )
    listener = _listen(settings.host, settings.port)
    opened = options.open_model(project, model=model, stage=stage)
    options.warn_if_unfinished(project, opened)
    options.require_speech(opened)

    from chatgpt_cli.generation.engine import Engine
    from chatgpt_cli.model.inference import InferenceModel

    kind = quantize or project.config.generate.quantize
    library = options.compiled_code(project, opened, build=True)
    engine = Engine(
        InferenceModel(opened.loaded.model, kind, library=library),
        opened.loaded.tokenizer,
        max_rows=settings.parallel,
        prefix_cache_mb=settings.prefix_cache_mb,
        draft=options.open_draft(project, opened, draft, library),
    )
    name = settings.model_name or (model or project.config.run_dir).resolve().name
    service = Service(
        engine,
        name=name,
        defaults=project.config.generate,
        system_prompt=options.system_prompt(project, opened.stage),
        max_queue=settings.max_queue,
    )
    address = listener.getsockname()
    shown = _browsable(address[0])
    project.output.line(f"Model: {opened.folder}")
    if not keys and settings.host not in ("127.0.0.1", "::1", "localhost"):
        project.output.warn("Without --api-key, everyone who reaches this machine may use it.")
    project.output.success(
        f"Chat: http://{shown}:{address[1]}/ · API: http://{shown}:{address[1]}/v1 · "
        f"model {name!r} · Ctrl-C ends"
    )
    server = uvicorn.Server(
        uvicorn.Config(
            build_app(service, settings),
            log_level="warning",
            timeout_graceful_shutdown=settings.drain_seconds,
            # Longer than clients keep an idle connection: one closed here while the next
            # request is on its way would be an error there.
            timeout_keep_alive=75,
            server_header=False,
        )
    )

    def leave(*_: object) -> None:
        server.should_exit = True

    # uvicorn has handlers of its own once it serves. Before that a signal is remembered; when
    # uvicorn raises it again, having drained, there is nothing left to do.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)
    server.run(sockets=[listener])
    project.output.line("Ended.")


def _browsable(address: str) -> str:
    """What to open in a browser: an address that stands for all of a machine's is none."""
    if address in ("0.0.0.0", "::"):
        return "localhost"
    return f"[{address}]" if ":" in address else address


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket, before the model is loaded: a taken port is told at once.

    Raises:
        ChatGPTError: if the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except socket.gaierror as error:
        listener.close()
        raise ChatGPTError(
            f"{host} is no address of this machine ({error.strerror})",
            place="serve.host",
            remedy="Set --host 127.0.0.1 for this machine alone, or 0.0.0.0 for all networks.",
        ) from None
    except OSError as error:
        listener.close()
        raise ChatGPTError(
            f"cannot listen on {host}:{port} ({error.strerror or error})",
            place="serve.port",
            remedy="Choose another with --port, or end the program that uses it.",
        ) from None
    listener.listen(256)
    return listener
