"""What every benchmark has: its options, its figures and targets, its JSON file."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_PACKAGES = ("torch", "transformers", "accelerate", "tokenizers", "sentencepiece", "numpy")


@dataclass
class Report:
    """Figures of one benchmark, and whether they reach their targets."""

    name: str
    figures: dict[str, Any] = field(default_factory=dict)
    targets: dict[str, dict[str, Any]] = field(default_factory=dict)

    def figure(self, name: str, value: Any) -> None:
        """Note a figure and show it."""
        self.figures[name] = value
        shown = value
        if isinstance(value, int | float):
            shown = f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"
        print(f"{name}: {shown}", flush=True)

    def target(self, name: str, measured: float, *, least: float = 0, most: float = 0) -> None:
        """Hold a figure against its target: at least `least`, or at most `most`."""
        holds = measured >= least if least else measured <= most
        self.targets[name] = {
            "target": f">= {least:g}" if least else f"<= {most:g}",
            "measured": round(measured, 4),
            "holds": holds,
        }
        wanted = self.targets[name]["target"]
        print(f"{'holds' if holds else 'MISSED'}: {name} {measured:,.4g} ({wanted})", flush=True)

    def write(self, path: Path | None) -> None:
        """Write all of it as JSON, where that is wanted."""
        content = {
            "name": self.name,
            "machine": machine(),
            "versions": versions(),
            "figures": self.figures,
            "targets": self.targets,
        }
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"Written to {path}")


def options(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options all benchmarks share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result here")
    parser.add_argument("--quick", action="store_true", help="under three minutes, less exact")
    return parser


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "memory_gb": round(memory / 1e9, 1),
        "system": platform.system(),
        "gpu": _gpu(),
    }


def _gpu() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    wanted = ("model name", "cpu family", "model")
    found = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    values = {key.strip(): value.strip() for key, value in found.items()}
    # Virtual machines hide the name; family and model still tell the generation.
    return ", ".join(f"{key} {values[key]}" for key in wanted if key in values)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that the figures depend on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
