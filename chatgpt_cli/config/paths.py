"""Where everything of a project lies: the names of DESIGN in one place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

# The kinds of training in the order in which they follow each other; each has a section in
# the configuration, a command and a folder of this name.
StageName = Literal["pretrain", "finetune", "prefer", "reinforce"]
STAGES: tuple[StageName, ...] = get_args(StageName)

PACKAGE = Path(__file__).resolve().parent.parent


def builtin(*parts: str) -> Path:
    """A file or folder that travels with the package, such as `builtin("configs")`.

    In a wheel these lie inside the package, in a checkout beside it.
    """
    inside = PACKAGE / "builtin"
    return (inside if inside.is_dir() else PACKAGE.parent).joinpath(*parts)


@dataclass(frozen=True)
class StagePaths:
    """The files of one kind of training."""

    root: Path

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.root / "checkpoints"

    @property
    def latest(self) -> Path:
        """Names the newest checkpoint."""
        return self.root / "latest"

    @property
    def best(self) -> Path:
        """Names the best checkpoint so far."""
        return self.root / "best"

    @property
    def metrics(self) -> Path:
        """Losses and scores, a line of JSON each."""
        return self.root / "metrics.jsonl"

    @property
    def report(self) -> Path:
        """The page with curves and a verdict."""
        return self.root / "report.html"

    @property
    def trackers(self) -> Path:
        """What trackers write on this machine."""
        return self.root / "trackers"

    def pointed(self, pointer: Path) -> Path | None:
        """The checkpoint that `latest` or `best` names, if there is one."""
        try:
            name = pointer.read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            return None
        # Nothing that leads out of the folder, and no name that only looks like one.
        if re.fullmatch(r"step-\d+", name, re.ASCII) is None:
            return None
        checkpoint = self.checkpoints / name
        return checkpoint if checkpoint.is_dir() else None


@dataclass(frozen=True)
class RunPaths:
    """The files of a run directory."""

    root: Path

    @property
    def config(self) -> Path:
        """The settings, as run."""
        return self.root / "config.yaml"

    @property
    def tokenizer(self) -> Path:
        """The tokenizer's folder."""
        return self.root / "tokenizer"

    @property
    def data(self) -> Path:
        """The token shards' folder."""
        return self.root / "data"

    @property
    def manifest(self) -> Path:
        """What is in the token shards."""
        return self.data / "manifest.json"

    @property
    def parts(self) -> Path:
        """Finished parts of preprocessing that is not finished."""
        return self.root / "parts"

    def stage(self, name: StageName) -> StagePaths:
        """The files of a kind of training."""
        return StagePaths(self.root / name)

    @property
    def pretrain(self) -> StagePaths:
        """The files of pretrain."""
        return self.stage("pretrain")

    @property
    def finetune(self) -> StagePaths:
        """The files of finetune."""
        return self.stage("finetune")

    @property
    def prefer(self) -> StagePaths:
        """The files of prefer."""
        return self.stage("prefer")

    @property
    def reinforce(self) -> StagePaths:
        """The files of reinforce."""
        return self.stage("reinforce")

    @property
    def evaluate(self) -> Path:
        """The folder of scores and answers."""
        return self.root / "evaluate"
