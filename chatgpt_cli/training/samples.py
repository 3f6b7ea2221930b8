"""What the model says while it is trained: for looking, not for scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from chatgpt_cli.generation.classify import classify
from chatgpt_cli.generation.engine import complete
from chatgpt_cli.generation.fill_mask import fill_masks
from chatgpt_cli.generation.sampling import Sampling
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.tokenizer.chat import Message, render
from chatgpt_cli.tokenizer.tokenizer import Tokenizer
from chatgpt_cli.training.device import Hardware

Style = Literal["text", "chat"]


@dataclass(frozen=True)
class Sampler:
    """Answers, continues or fills in a prompt, in the way the model is trained for.

    The same seed each time, so that differences come from the model alone.
    """

    tokenizer: Tokenizer
    hardware: Hardware
    style: Style
    seed: int

    def __call__(self, model: Transformer, prompt: str, max_tokens: int) -> str:
        """Continue a prompt by at most `max_tokens` tokens."""
        with self.hardware.autocast():
            if model.config.labels:
                (found,) = classify(model, self.tokenizer, [(prompt,)])
                return f"{found.label} ({found.probability:.1%})"
            if not model.config.causal:
                return self._filled(model, prompt)
            if self.style == "chat":
                messages = [Message("user", prompt)]
                ids = render(messages, self.tokenizer, add_generation_prompt=True).ids
            else:
                ids = self.tokenizer.beginning(prompt)
            sampling = Sampling(max_tokens=max_tokens, temperature=0.7, top_p=0.9, seed=self.seed)
            stop_ids = self.tokenizer.stop_ids
            (completion,) = complete(model, self.tokenizer, [ids], sampling, stop_ids=stop_ids)
            return completion.text

    def _filled(self, model: Transformer, prompt: str) -> str:
        """The prompt with the most probable token in the place of each [MASK]."""
        if "[MASK]" not in prompt:
            prompt += "[MASK]"
        for candidates in fill_masks(model, self.tokenizer, prompt, top=1):
            prompt = prompt.replace("[MASK]", candidates[0].text, 1)
        return prompt
