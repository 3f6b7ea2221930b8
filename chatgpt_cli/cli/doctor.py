"""`chatgpt doctor`: is everything there?"""

from __future__ import annotations

import typer

from chatgpt_cli.cli.output import Output
from chatgpt_cli.cli.project import JsonOption
from chatgpt_cli.language import located


def doctor(json_output: JsonOption = False) -> None:
    """Look at versions, hardware and speed, and say what is missing and how to get it.

    Exit code 0: everything needed works; 1: something does not.
    """
    output = Output(json_output=json_output)
    from dataclasses import asdict

    from chatgpt_cli.diagnosis import examine

    output.line("Looking; torch.compile alone takes ten seconds the first time.")
    findings = examine()
    faults = [one for one in findings if one.state == "fault"]
    if json_output:
        output.json({"healthy": not faults, "findings": [asdict(one) for one in findings]})
    for one in findings:
        text = located(output.words(one.name), one.said)
        (output.success if one.state == "ok" else output.warn)(text)
        if one.remedy:
            output.line(f"    {one.remedy}")
    if faults:
        output.line(f"{len(faults)} of {len(findings)} do not work.")
        raise typer.Exit(1)
    output.next_step("Everything needed is there. Next: chatgpt init, or make quickstart")
