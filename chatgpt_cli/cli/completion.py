"""`chatgpt completion`: Tab completes commands, options, their values and settings."""

from __future__ import annotations

import inspect
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

from chatgpt_cli.language import LANGUAGES, translator

Shell = Literal["bash", "zsh", "fish"]


def completion(
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")],
) -> None:
    """Print what makes the shell complete chatgpt's commands, options and settings.

    bash: chatgpt completion bash > ~/.local/share/bash-completion/completions/chatgpt.
    zsh: chatgpt completion zsh >> ~/.zshrc.
    fish: chatgpt completion fish > ~/.config/fish/completions/chatgpt.fish.
    """
    commands = _commands()
    typer.echo(_fish(commands) if shell == "fish" else _bash(commands, zsh=shell == "zsh"))


# Of each command the options, and of each option what it does and the values it can have.
_Commands = dict[str, dict[str, tuple[str, list[str]]]]


def _commands() -> _Commands:
    from chatgpt_cli.cli.main import COMMANDS, command_of

    return {name: _options(command_of(name)) for name in COMMANDS}


def _options(command: Any) -> dict[str, tuple[str, list[str]]]:
    say = translator()
    found: dict[str, tuple[str, list[str]]] = {
        "--help": (say("Show help"), []),
        "--lang": (say("The language of messages"), list(LANGUAGES)),
    }
    hints = get_type_hints(inspect.unwrap(command.callback))
    for parameter in command.params:
        names = [*parameter.opts, *parameter.secondary_opts]
        values = _choices(hints.get(parameter.name))
        about = say(getattr(parameter, "help", None) or "").partition(". ")[0].partition("。")[0]
        found |= {name: (about, values) for name in names if name.startswith("--")}
    return found


def _choices(annotation: Any) -> list[str]:
    """The values of a Literal, also of one that may be left out."""
    if get_origin(annotation) is Literal:
        return [str(value) for value in get_args(annotation)]
    return [value for inner in get_args(annotation) for value in _choices(inner)]


def setting_names() -> list[str]:
    """Every setting by its full name, such as pretrain.learning_rate."""
    from pydantic import BaseModel

    from chatgpt_cli.config.schema import Config

    names = []
    for section, field in Config.model_fields.items():
        inside = field.annotation
        if isinstance(inside, type) and issubclass(inside, BaseModel):
            names += [f"{section}.{one.alias or key}" for key, one in inside.model_fields.items()]
        else:
            names.append(section)
    return names


_BASH = """\
{zsh}_chatgpt() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} words=""
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "{names}" -- "$current"))
        return
    fi
    if [ "$before" = --set ]; then
        compopt -o nospace 2>/dev/null
        COMPREPLY=($(compgen -W "{settings}" -- "$current"))
        return
    fi
    case "${{COMP_WORDS[1]}} $before" in
{values}
    esac
    if [ -n "$words" ]; then
        COMPREPLY=($(compgen -W "$words" -- "$current"))
        return
    fi
    case "$current" in -*) ;; *) COMPREPLY=(); return ;; esac
    case "${{COMP_WORDS[1]}}" in
{options}
    esac
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _chatgpt chatgpt"""


def _bash(commands: _Commands, *, zsh: bool) -> str:
    """A function for bash; zsh runs it through its bashcompinit."""
    values = [
        f'        "{name} {option}") words="{" ".join(choices)}" ;;'
        for name, options in commands.items()
        for option, (_, choices) in options.items()
        if choices
    ]
    listed = [
        f'        {name}) words="{" ".join(options)}" ;;' for name, options in commands.items()
    ]
    return _BASH.format(
        zsh="autoload -U +X bashcompinit && bashcompinit\n" if zsh else "",
        names=" ".join(commands),
        settings=" ".join(f"{name}=" for name in setting_names()),
        values="\n".join(values),
        options="\n".join(listed),
    )


def _fish(commands: _Commands) -> str:
    """One line for each command, option and setting."""
    from chatgpt_cli.cli.main import COMMANDS

    meanings = {name: _quoted(translator()(COMMANDS[name])) for name in commands}
    lines = [
        f"complete -c chatgpt -n __fish_use_subcommand -f -a {name} -d {meanings[name]}"
        for name in commands
    ]
    for name, options in commands.items():
        when = f"-n '__fish_seen_subcommand_from {name}'"
        for option, (about, choices) in options.items():
            given = f" -x -a {_quoted(' '.join(choices))}" if choices else ""
            if option == "--set":
                settings = " ".join(f"{one}=" for one in setting_names())
                given = f" -x -a {_quoted(settings)}"
            lines.append(f"complete -c chatgpt {when} -l {option[2:]} -d {_quoted(about)}{given}")
    return "\n".join(lines)


def _quoted(text: str) -> str:
    """In fish's single quotes only these two stand for something else."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
