"""What is installed, what this machine can do, and what is missing."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

import torch

from chatgpt_cli import __version__
from chatgpt_cli.config.paths import PACKAGE
from chatgpt_cli.config.schema import HardwareSection
from chatgpt_cli.files import compiled_code_folder
from chatgpt_cli.model.native.library import load_library
from chatgpt_cli.reproduction.record import processor
from chatgpt_cli.training.device import choose_hardware, keep_compiled_code, missing_compiler
from chatgpt_cli.training.memory import free_memory, total_memory

_PYTHON = (3, 11)
# Extras that a user may want; the others are for those who work on the program.
_EXTRAS = {
    "serve": "chatgpt serve, answers of a given form",
    "models": "models of others: Hub names, their tokenizers, .gguf files",
    "parquet": "Parquet files",
    "wandb": "curves in Weights & Biases",
    "trackio": "curves in Trackio",
}
_LITTLE_DISK = 2e9
_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(?:\[[^]]*\])?(?P<limits>[^;]*)(?:;(?P<marker>.*))?")
_PROBE_SECONDS = 1.0


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. A `fault` stops commands; a `note` is good to know."""

    name: str
    state: Literal["ok", "note", "fault"]
    said: str
    remedy: str | None = None


def examine() -> list[Finding]:
    """Look at everything; takes some seconds, a few more the first time on a machine."""
    hardware = choose_hardware(HardwareSection())
    return [
        _python(),
        Finding("chatgpt-cli", "ok", f"{__version__} ({PACKAGE})"),
        *_packages(),
        *_machine(hardware.device),
        _speed(hardware.device),
        _compiled_code(hardware.device),
        _compiling(hardware.device),
        *_folders(),
    ]


def _python() -> Finding:
    said = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info < _PYTHON:
        remedy = f"Install Python {'.'.join(map(str, _PYTHON))} or newer."
        return Finding("Python", "fault", said, remedy)
    return Finding("Python", "ok", said)


# --------------------------------------------------------------------------- packages


def _packages() -> list[Finding]:
    """What the program needs, and each extra, from its own metadata."""
    try:
        listed = requires("chatgpt-cli") or []
    except PackageNotFoundError:
        return [Finding("packages", "fault", "chatgpt-cli is not installed", "pip install .")]
    needed = [one for one in listed if "extra ==" not in one]
    findings = _needed(needed)
    for extra, purpose in _EXTRAS.items():
        wanted = [one for one in listed if re.search(rf"extra == ['\"]{extra}['\"]", one)]
        lacking = [text for one in wanted if (text := unmet(one))]
        if lacking:
            said = f"{'; '.join(lacking)}. For: {purpose}"
            remedy = f"pip install 'chatgpt-cli[{extra}]'"
            findings.append(Finding(f"extra {extra}", "note", said, remedy))
        elif wanted:
            findings.append(Finding(f"extra {extra}", "ok", purpose))
    return findings


def _needed(requirements: list[str]) -> list[Finding]:
    lacking = {one: text for one in requirements if (text := unmet(one))}
    if not lacking:
        names = ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy", "sentencepiece"))
        return [Finding("packages", "ok", f"all {len(requirements)} are there: {names}, …")]
    return [
        Finding("packages", "fault", text, f"pip install '{one.partition(';')[0].strip()}'")
        for one, text in lacking.items()
    ]


def unmet(requirement: str) -> str | None:
    """What is wrong with a requirement such as "torch<3,>=2.10", None if it is met."""
    parts = _REQUIREMENT.fullmatch(requirement.strip())
    if parts is None:
        return None
    name = parts["name"]
    try:
        there = version(name)
    except PackageNotFoundError:
        return f"{name} is missing"
    for limit in filter(None, map(str.strip, parts["limits"].strip(" ()").split(","))):
        sign, wanted = re.fullmatch(r"([<>=!~]+)\s*(.+)", limit).groups()  # type: ignore[union-attr]
        low = _numbers(there) < _numbers(wanted)
        if (sign == ">=" and low) or (sign == "<" and not low):
            return f"{name} is {there}, {limit} is needed"
    return None


def _numbers(text: str) -> tuple[int, ...]:
    """The release numbers of a version, as far as they are numbers."""
    return tuple(int(one) for one in re.findall(r"\d+", text.partition("+")[0])[:3])


# ---------------------------------------------------------------------------- machine


def _machine(device: torch.device) -> list[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    findings = [Finding("processor", "ok", f"{processor()}, {cores} cores to use")]
    total, free = total_memory(torch.device("cpu")), free_memory(torch.device("cpu"))
    if total is not None and free is not None:
        findings.append(
            Finding("memory", "ok", f"{total / 1e9:.1f} GB, {free / 1e9:.1f} GB of it free")
        )
    if device.type == "cpu":
        built = (
            ""
            if torch.version.cuda is None
            else f" (PyTorch is built for CUDA {torch.version.cuda})"
        )
        findings.append(Finding("GPU", "ok", f"PyTorch finds none{built}; the CPU is used"))
    else:
        name = torch.cuda.get_device_name() if device.type == "cuda" else "Apple GPU (MPS)"
        findings.append(Finding("GPU", "ok", name))
    return findings


def matmul_rate(dtype: torch.dtype, device: torch.device, seconds: float) -> float:
    """The best rate of a square matrix product within so many seconds, in FLOP/s."""
    size = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end or best == float("inf"):
        start = time.perf_counter()
        (a @ b)[0, 0].item()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def _speed(device: torch.device) -> Finding:
    rates = {
        str(dtype).removeprefix("torch."): matmul_rate(dtype, device, _PROBE_SECONDS) / 1e9
        for dtype in (torch.float32, torch.bfloat16)
    }
    said = ", ".join(f"{rate:,.0f} GFLOP/s in {name}" for name, rate in rates.items())
    return Finding("speed", "ok", f"matrix products on {device.type}: {said}")


def _compiled_code(device: torch.device) -> Finding:
    name = "writing on the CPU"
    if device.type != "cpu":
        return Finding(name, "ok", "the GPU writes; no code of its own is compiled")
    if load_library(device, build=True) is not None:
        return Finding(name, "ok", "compiled for this processor")
    said = "PyTorch computes it, several times slower: there is no C++ compiler that works"
    return Finding(name, "note", said, _COMPILER)


_COMPILER = "Install g++ (Debian, Ubuntu: apt install g++; macOS: xcode-select --install)."


def _compiling(device: torch.device) -> Finding:
    """Whether torch.compile works, by a function as small as can be."""
    name = "torch.compile"
    missing = missing_compiler(device)
    if missing is not None:
        said = f"there is no {missing}: long training runs take about 1.4 times as long"
        return Finding(name, "note", said, _COMPILER if device.type == "cpu" else "Install it.")
    keep_compiled_code()
    start = time.perf_counter()
    try:
        given = torch.arange(64.0, device=device)
        right = torch.equal(torch.compile(_doubled)(given), _doubled(given))
    except Exception as error:
        # Whatever the compilers of all systems raise; training would raise it, too.
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return Finding(name, "fault", f"fails: {lines[0][:150]}", _NOT_COMPILED)
    if not right:
        return Finding(name, "fault", "computes something else than PyTorch", _NOT_COMPILED)
    return Finding(name, "ok", f"works ({time.perf_counter() - start:.1f} s)")


_NOT_COMPILED = "Train without it: hardware: {compile: false} in the file."


def _doubled(x: torch.Tensor) -> torch.Tensor:
    return x * 2 + 1


def _folders() -> list[Finding]:
    """The current folder, where runs go, and the place for compiled code."""
    here = Path.cwd()
    free = shutil.disk_usage(here).free
    said = f"{free / 1e9:.1f} GB free in {here}"
    findings = []
    if not os.access(here, os.W_OK):
        remedy = "Work in another folder, or set run_dir to one that can be written."
        findings.append(Finding("disk", "fault", f"{here} cannot be written", remedy))
    elif free < _LITTLE_DISK:
        remedy = "`chatgpt runs --clean` lists checkpoints that are no longer needed."
        findings.append(Finding("disk", "note", said, remedy))
    else:
        findings.append(Finding("disk", "ok", said))
    if compiled_code_folder() is None:
        said = "~/.cache/chatgpt cannot be written: code is compiled anew in each run"
        findings.append(Finding("cache", "note", said, "Set XDG_CACHE_HOME to a folder that can."))
    return findings
