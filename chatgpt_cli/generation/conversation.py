"""A conversation that always fits into the model's context."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from chatgpt_cli.generation.engine import Engine, Stream, answer_room
from chatgpt_cli.generation.sampling import Sampling
from chatgpt_cli.tokenizer.chat import Message, render
from chatgpt_cli.tokenizer.tokenizer import Tokenizer


@dataclass
class Conversation:
    """Turns so far, and the next answer.

    When they outgrow the context, the model is shown the system message and as many
    of the last turns as fit; `messages` keeps all of them.
    """

    engine: Engine
    sampling: Sampling
    system: str | None = None
    messages: list[Message] = field(default_factory=list)
    # Whether the last answer was written without sight of the first turns.
    forgetful: bool = False

    def ask(self, text: str) -> Stream:
        """Add the user's turn and begin the answer; give it back to `answered` when done."""
        self.messages.append(Message("user", text))
        stop_ids = self.engine.tokenizer.stop_ids
        return self.engine.stream(self.prompt(), self.sampling, stop_ids=stop_ids)

    def answered(self, text: str) -> None:
        """Add the answer, or as much of it as was wanted."""
        self.messages.append(Message("assistant", text))

    def take_back(self) -> str | None:
        """Forget the last question and its answer; returns the question, None without one."""
        if len(self.messages) < 2 or self.messages[-1].role != "assistant":
            return None
        del self.messages[-1]
        return self.messages.pop().content

    def reset(self) -> None:
        """Forget all turns; the system message stays."""
        self.messages.clear()
        self.forgetful = False

    def all_messages(self) -> list[Message]:
        """The system message, if there is one, and all turns."""
        return [*self._opening(), *self.messages]

    def prompt(self) -> list[int]:
        """Token ids for the next answer, without the oldest turns if they do not fit.

        The last turn always stays: if it alone is too long, the engine cuts its beginning.
        """
        context = self.engine.model.config.context_length
        room = context - answer_room(context, self.sampling)
        ids, forgotten = fitting_prompt(self.all_messages(), self.engine.tokenizer, room)
        self.forgetful = forgotten > 0
        return ids

    def _opening(self) -> list[Message]:
        return [Message("system", self.system)] if self.system else []


def fitting_prompt(
    messages: Sequence[Message], tokenizer: Tokenizer, room: int
) -> tuple[list[int], int]:
    """Token ids for the next answer, without the oldest turns if they do not fit.

    A system message at the beginning stays, and so does the last turn.

    Returns:
        the ids, and how many messages were left out.
    """
    opening = [message for message in messages[:1] if message.role == "system"]
    turns = messages[len(opening) :]
    last = len(turns) - 1
    starts = [n for n in range(1, len(turns)) if turns[n].role == "user" or n == last]

    def rendered(start: int) -> list[int]:
        shown = [*opening, *turns[start:]]
        return render(shown, tokenizer, add_generation_prompt=True).ids

    ids, start = rendered(0), 0
    if len(ids) > room and starts:
        fitting = bisect_left(starts, True, key=lambda start: len(rendered(start)) <= room)
        start = starts[min(fitting, len(starts) - 1)]
        ids = rendered(start)
    return ids, start
