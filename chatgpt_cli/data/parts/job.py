"""What the tasks of one preprocessing in parts share: what to read, and where results lie."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from chatgpt_cli.config.schema import Config, DataSection, SourceSection
from chatgpt_cli.data.parts.plan import Part, divide
from chatgpt_cli.data.sources import DataFile
from chatgpt_cli.data.survey import SourceFiles
from chatgpt_cli.files import write_text

# All parts together draw up to this many times the tokenizer's sample; of these it is made.
_DRAWN = 16


@dataclass(frozen=True)
class Job:
    """The settings, the sources (their files are in the parts) and the parts.

    `sample_bytes` and `sample_threshold` say how each part draws its documents for the
    tokenizer's sample.
    """

    section: DataSection
    sources: list[SourceFiles]
    parts: list[Part]
    sample_bytes: int
    sample_threshold: int

    def part(self, number: int) -> SourceFiles:
        """The source of a part, with the part's files alone."""
        part = self.parts[number]
        source = self.sources[part.source]
        return SourceFiles(source.section, part.files, source.validation_only)


def plan_job(config: Config, sources: Sequence[SourceFiles]) -> Job:
    """Divide the text into parts."""
    limit = config.tokenizer.sample_bytes
    size = sum(file.size for source in sources for file in source.files)
    halvings = max(0, (size // (_DRAWN * limit)).bit_length() - 1)
    return Job(config.data, list(sources), divide(sources), limit, max(1 << 32 >> halvings, 1 << 8))


def save_job(job: Job, folder: Path) -> None:
    """Write job.json, by which the other machines know that the work can begin."""
    value = {
        "section": job.section.model_dump(mode="json"),
        "sources": [
            {
                "section": source.section.model_dump(mode="json"),
                "validation_only": source.validation_only,
            }
            for source in job.sources
        ],
        "parts": [asdict(part) for part in job.parts],
        "sample_bytes": job.sample_bytes,
        "sample_threshold": job.sample_threshold,
    }
    write_text(folder / "job.json", json.dumps(value))


@cache
def load_job(folder: Path) -> Job:
    """Read job.json; once in each worker, however many tasks it does."""
    value = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    return Job(
        section=DataSection.model_validate(value["section"]),
        sources=[
            SourceFiles(
                SourceSection.model_validate(source["section"]), [], source["validation_only"]
            )
            for source in value["sources"]
        ],
        parts=[
            Part(part["source"], [DataFile(**file) for file in part["files"]])
            for part in value["parts"]
        ],
        sample_bytes=value["sample_bytes"],
        sample_threshold=value["sample_threshold"],
    )
