"""Compiles the C++ code for this processor, once, and loads it."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from chatgpt_cli.files import atomic_path, compiled_code_folder

_HEADERS = ("products.h",)
_SOURCES = ("decode.cpp", "quantize.cpp")
_FLAGS = ("-O3", "-march=native", "-std=c++17", "-fPIC", "-fopenmp")
_SECONDS = 120


class Matrix(ctypes.Structure):
    """As in products.h."""

    _fields_ = (
        ("kind", ctypes.c_int64),
        ("outputs", ctypes.c_int64),
        ("columns", ctypes.c_int64),
        ("inputs", ctypes.c_int64),
        ("weight", ctypes.c_void_p),
        ("scale", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
    )


class Norm(ctypes.Structure):
    """As in decode.cpp."""

    _fields_ = (
        ("rms", ctypes.c_int64),
        ("weight", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("eps", ctypes.c_double),
    )


class Layer(ctypes.Structure):
    """As in decode.cpp."""

    _fields_ = (
        ("norm", Norm),
        ("mlp_norm", Norm),
        ("qkv", Matrix),
        ("out", Matrix),
        ("gate", Matrix),
        ("up", Matrix),
        ("down", Matrix),
        ("gain", ctypes.c_void_p),
    )


class Model(ctypes.Structure):
    """As in decode.cpp."""

    _fields_ = (
        ("hidden", ctypes.c_int64),
        ("heads", ctypes.c_int64),
        ("kv_heads", ctypes.c_int64),
        ("head_dim", ctypes.c_int64),
        ("intermediate", ctypes.c_int64),
        ("layer_count", ctypes.c_int64),
        ("activation", ctypes.c_int64),
        ("qk_eps", ctypes.c_double),
        ("embedding_is_bfloat16", ctypes.c_int64),
        ("embedding", ctypes.c_void_p),
        ("positions", ctypes.c_void_p),
        ("rotations", ctypes.c_void_p),
        ("layers", ctypes.POINTER(Layer)),
        ("norm", Norm),
        ("head", Matrix),
    )


class Cache(ctypes.Structure):
    """As in decode.cpp."""

    _fields_ = (
        ("store", ctypes.c_void_p),
        ("is_bfloat16", ctypes.c_int64),
        ("rows", ctypes.c_int64),
        ("slots", ctypes.c_int64),
    )


class Tokens(ctypes.Structure):
    """As in decode.cpp."""

    _fields_ = (
        ("ids", ctypes.POINTER(ctypes.c_int64)),
        ("rows", ctypes.POINTER(ctypes.c_int64)),
        ("slots", ctypes.POINTER(ctypes.c_int64)),
        ("count", ctypes.c_int64),
        ("several", ctypes.c_int64),
    )


class Scores(ctypes.Structure):
    """As in decode.cpp."""

    _fields_ = (
        ("logits", ctypes.c_void_p),
        ("best", ctypes.c_void_p),
        ("total", ctypes.c_void_p),
    )


def load_library(device: torch.device, *, build: bool) -> ctypes.CDLL | None:
    """The compiled code; None where it cannot be had or is of no use.

    Args:
        device: what the model computes on; the code is for the CPU.
        build: compile it if that was not done before, which takes some seconds.
    """
    compiler = _compiler()
    if compiler is None or device.type != "cpu":
        return None
    folder = compiled_code_folder()
    if folder is None:
        return _built_for_now(compiler) if build else None
    path = folder / f"native-{_fingerprint(compiler)}.so"
    if not path.exists() and not (build and _compile(compiler, path)):
        return None
    return _load(path)


@functools.cache
def _compiler() -> str | None:
    if sys.platform == "win32":
        return None
    names = (os.environ.get("CXX", ""), "g++", "c++")
    return next((found for name in names if name and (found := shutil.which(name))), None)


@functools.cache
def _fingerprint(compiler: str) -> str:
    """Differs where the compiled code would: sources, flags, compiler, processor, PyTorch."""
    digest = hashlib.sha256()
    for name in (*_HEADERS, *_SOURCES):
        digest.update((Path(__file__).parent / name).read_bytes())
    about = Path(compiler).resolve().stat()
    facts = (_FLAGS, compiler, about.st_size, about.st_mtime_ns, _processor(), torch.__version__)
    digest.update(repr(facts).encode())
    return digest.hexdigest()[:16]


def _processor() -> str:
    """Name and instruction sets: a home folder may be shared by unequal machines."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return f"{platform.machine()} {platform.processor()}"
    lines = info.read_text(encoding="utf-8", errors="replace").split("\n\n")[0].splitlines()
    keys = ("model name", "flags", "Features", "CPU part")
    return "\n".join(line for line in lines if line.startswith(keys))


@functools.cache
def _built_for_now(compiler: str) -> ctypes.CDLL | None:
    """Compiled for this process alone, where no folder can be written."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "native.so"
        return _load(path) if _compile(compiler, path) else None


def _compile(compiler: str, path: Path) -> bool:
    """Write the library to `path`, whole or not at all; whether that worked.

    It is linked without a thread library of its own: it finds PyTorch's already loaded,
    and two would keep each other from the processor.
    """
    try:
        with tempfile.TemporaryDirectory() as name, atomic_path(path) as linked:
            sources = [str(Path(__file__).parent / source) for source in _SOURCES]
            unlinked = [str(Path(name) / f"{source}.o") for source in _SOURCES]
            for command in (
                *(
                    [compiler, *_FLAGS, "-c", source, "-o", target]
                    for source, target in zip(sources, unlinked, strict=True)
                ),
                [compiler, "-shared", *unlinked, "-o", str(linked)],
            ):
                subprocess.run(command, check=True, capture_output=True, timeout=_SECONDS)
    except (OSError, subprocess.SubprocessError):
        return False
    return True


@functools.cache
def _load(path: Path) -> ctypes.CDLL | None:
    try:
        # At once, so that a missing thread library shows here and not at the first call.
        library = ctypes.CDLL(str(path), mode=os.RTLD_NOW)
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        library.decode.argtypes = (pointer, pointer, pointer, pointer, number)
        library.product.argtypes = (pointer, pointer, number, pointer, number)
        library.quantize_matrix.argtypes = (
            pointer, number, number, number, pointer, pointer, pointer, pointer, number,
        )  # fmt: skip
        library.rescale_sums.argtypes = (
            pointer, number, number, number, pointer, pointer, pointer, number,
        )  # fmt: skip
        functions = (
            library.decode, library.product, library.quantize_matrix, library.rescale_sums,
        )  # fmt: skip
    except (OSError, AttributeError):
        return None
    for function in functions:
        function.restype = None
    return library
