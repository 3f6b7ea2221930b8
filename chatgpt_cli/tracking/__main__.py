"""The process that feeds one service: `python -m chatgpt_cli.tracking SERVICE STAGE GROUP`.

It ends when its standard input does. On its standard output it says, one JSON object a
line, what the user should know; whatever a library prints goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from pathlib import Path

from chatgpt_cli.config.paths import StagePaths
from chatgpt_cli.tracking.follow import follow
from chatgpt_cli.tracking.services import SERVICES

_SECONDS = 1.0


def main() -> int:
    """The exit code: 1 if the service failed, whose reason stands in the log."""
    service, root, group = sys.argv[1:]
    (service,) = [one for one in SERVICES if one == service]
    messages = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    ended = threading.Event()

    def read_to_the_end() -> None:
        sys.stdin.buffer.read()
        ended.set()

    def tell(text: str, *, failed: bool = False) -> None:
        messages.write(json.dumps({"text": text, "failed": failed}) + "\n")

    threading.Thread(target=read_to_the_end, daemon=True).start()
    try:
        follow(
            service,
            StagePaths(Path(root)),
            group=group,
            wait=lambda: ended.wait(_SECONDS),
            tell=tell,
        )
    except BaseException as error:
        traceback.print_exc()
        reason = str(error).strip().splitlines() or [type(error).__name__]
        tell(reason[0], failed=True)
        return 1
    return 0


if __name__ == "__main__":
    if main():
        # Without waiting for the threads of a library that failed.
        sys.stderr.flush()
        os._exit(1)
