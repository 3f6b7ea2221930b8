"""The commented file that `chatgpt init` writes."""

from __future__ import annotations

import json
import re

from chatgpt_cli.language import translator

# What stands behind the last # of a line, which may be a setting of its own.
_COMMENT = re.compile(r"(?<=# )[^#]+$")
# Each commented setting stands with its default; a test compares them with the schema.
STARTER = """\
# A project of chatgpt: raw text to a model that answers, with five commands:
#   chatgpt preprocess, pretrain, finetune, evaluate, generate (and chat)
# `chatgpt config` shows every setting; `chatgpt config --schema` describes them.
run_dir: {run_dir}
# seed: 1234

tokenizer:
  # type: unigram            # or bpe, or char
  vocab_size: {vocab_size}          # smaller for little text: 1000 tokens need about 100 KB
  # character_coverage: 0.9995   # 1.0 gives every Chinese character a token

data:
  sources:                   # files, folders, globs: txt md jsonl json csv tsv parquet, or .gz .xz
    - {source}
    # - path: articles.jsonl
    #   field: text          # the field with the text, in rows
    #   weight: 1.0          # 2 shows this source twice as often
  # validation_fraction: 0.02
  # on_error: stop           # or skip

model:
  preset: tiny               # nano tiny small medium base large · llama gpt2 article bert
  # context_length: 256

pretrain:
  budget: 3 epochs           # or "2000 steps", "10M tokens", "20 minutes"
  # batch_size: 16
  # learning_rate: 0.006
  # muon_learning_rate: 0.02
  # dropout: 0.1             # against overfitting; so are weight_decay, l1, early_stopping
  # early_stopping: 5
  # sample_prompts: ["Once upon a time"]

finetune:
  # Rows in any common format; `chatgpt inspect rows.jsonl` says what is in them.
  # data: [rows.jsonl]
  budget: 3 epochs
  # learning_rate: 0.001
  # system_prompt: You are a helpful assistant.

# evaluate:
#   tasks:
#     - name: my-test
#       data: held-out.jsonl
#       metrics: [exact_match, f1, bleu]

# generate:
#   temperature: 0.8
#   top_p: 0.95
#   max_tokens: 200
"""


def starter(*, name: str, source: str, vocab_size: int = 4096) -> str:
    """The file's text for a project called `name` whose text is at `source`.

    Its comments are in the chosen language.
    """
    say = translator()
    lines = [_COMMENT.sub(lambda found: say(found[0]), line) for line in STARTER.split("\n")]
    run_dir = f"runs/{name}"
    if re.search(r"[^\w/.-]", run_dir):
        # What YAML would read otherwise is quoted.
        run_dir = json.dumps(run_dir, ensure_ascii=False)
    return "\n".join(lines).format(run_dir=run_dir, source=source, vocab_size=vocab_size)
