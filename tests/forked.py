"""Processes forked from one that has loaded PyTorch and the commands: each begins at once.

Python keeps one such process for all tests of a worker, so there is one list of what it loads.
"""

from __future__ import annotations

import multiprocessing

import pytest

if "forkserver" not in multiprocessing.get_all_start_methods():
    pytest.skip("processes are forked here", allow_module_level=True)

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "chatgpt_cli.cli.main",
        "chatgpt_cli.cli.preprocess",
        "chatgpt_cli.cli.pretrain",
        "chatgpt_cli.cli.finetune",
        "chatgpt_cli.cli.generate",
        "chatgpt_cli.cli.evaluate",
        "chatgpt_cli.data.preprocess",
        "chatgpt_cli.evaluation.run",
        "chatgpt_cli.evaluation.report.stage_page",
        "chatgpt_cli.generation.engine",
        "chatgpt_cli.training.pretrain",
        "chatgpt_cli.training.finetune",
        "chatgpt_cli.training.prefer",
        "torch._dynamo",
        "tests.distributed.processes",
        "tests.faults.commands",
    ]
)
