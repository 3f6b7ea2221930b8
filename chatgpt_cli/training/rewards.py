"""What an answer earns in reinforcement: rules that can be checked, or a function of yours."""

from __future__ import annotations

import importlib
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path

from chatgpt_cli.config.schema import ReinforceSection
from chatgpt_cli.data.questions import Question
from chatgpt_cli.errors import ConfigError
from chatgpt_cli.evaluation.answers import last_number

Reward = Callable[[str, Question], float]


def reward_of(section: ReinforceSection) -> Reward:
    """The reward that a configuration names, see `ReinforceSection.reward`.

    Raises:
        ConfigError: if it names a function that is not there.
    """
    if section.reward == "exact":
        return lambda answer, question: float(answer.strip() in question.references)
    if section.reward == "number":
        return _number
    if section.pattern is not None:
        return _pattern(re.compile(section.pattern))
    return _function(section.reward)


def _number(answer: str, question: Question) -> float:
    found = last_number(answer)
    return float(found is not None and found in map(last_number, question.references))


def _pattern(pattern: re.Pattern[str]) -> Reward:
    """1 if the pattern's first group (all of it, where it has none) is found alike."""

    def part(text: str) -> str | None:
        found = pattern.search(text)
        return None if found is None else found[1 if pattern.groups else 0]

    def reward(answer: str, question: Question) -> float:
        found = part(answer)
        return float(found is not None and found in map(part, question.references))

    return reward


def _function(name: str) -> Reward:
    """A function of the user's, found from the folder that the command runs in."""
    module, _, attribute = name.partition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        function = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise ConfigError(
            f"there is no reward function {name} ({error})",
            place="reinforce.reward",
            remedy=f"Write `def {attribute}(answer, row)` in {module.replace('.', '/')}.py in "
            "this folder, or in an installed package.",
        ) from error
    finally:
        sys.path.remove(here)

    def reward(answer: str, question: Question) -> float:
        try:
            value = float(function(answer, question.row))
        except Exception as error:
            raise ConfigError(
                f"{name} fails: {type(error).__name__}: {error}",
                place=question.place,
                remedy=f"It is called with (answer, row); the answer was {answer[:80]!r}.",
            ) from error
        if not math.isfinite(value):
            raise ConfigError(f"{name} returns {value}, which is no reward", place=question.place)
        return value

    return reward
