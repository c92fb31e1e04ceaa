"""`upscale doctor`: versions of everything, and what is wrong, on stdout."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from upscale.cli.text import clean


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def doctor(as_json: bool) -> int:
    """Say what this installation consists of, and what is wrong with it.

    Exit code 0 if all is well, 1 if there are problems.
    """
    from upscale.cli.diagnosis import diagnose

    found = diagnose()
    if as_json:
        click.echo(json.dumps(asdict(found)))
        return 1 if found.problems else 0
    for name, value in found.facts.items():
        click.echo(f"{name:<10} {clean(_text(value))}")
    click.echo()
    for problem in found.problems:
        click.echo(f"problem: {clean(problem)}")
    if not found.problems:
        click.echo("no problems found")
    return 1 if found.problems else 0


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(of)}" for key, of in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
