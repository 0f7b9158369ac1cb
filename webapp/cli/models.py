"""``flask models``: what is in a model file, what serves it, and whether it is served."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from flask.cli import AppGroup
from rich.table import Table

from webapp.cli.failures import clear_errors
from webapp.cli.rendering import console, escape
from webapp.errors import AppError
from webapp.events.actions import record_action
from webapp.ml.loading import Allowed
from webapp.ml.loading.inspection import Inspection, inspect
from webapp.ml.passport import Compilation
from webapp.parts import parts
from webapp.services.naming import is_id
from webapp.services.tokens import Identity

models = AppGroup("models", help="Look into model files; verify, release, revalidate models.")
_OPERATOR = Identity("", "", "admin")


@models.command("inspect")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--format", "form", type=click.Choice(["table", "json"]), help="Default: table on a terminal."
)
def inspect_(file: Path, form: str | None) -> None:
    """Say what the joblib file FILE contains, without loading it.

    Exit status 1 means that an upload of it would be refused.
    """
    found = inspect(file.read_bytes(), Allowed.by(parts().settings))
    if (form or ("table" if sys.stdout.isatty() else "json")) == "json":
        click.echo(json.dumps(_as_json(found), indent=2))
    else:
        _print(file, found)
    sys.exit(1 if found.is_refused else 0)


@models.command("verify")
@click.argument("model")
def verify(model: str) -> None:
    """Compile MODEL again and compare it with scikit-learn; workers follow within 2 s.

    MODEL is an id, or a version of one: ID@3. Exit status 1 means that scikit-learn serves it.
    """
    if not is_id(model.partition("@")[0]):
        raise click.ClickException(
            "no model has this id: name it ID or ID@VERSION; a name is known to its owner only"
        )
    try:
        version = parts().registry.resolve(_OPERATOR, model)
    except AppError as error:
        raise click.ClickException(error.message) from None
    compilation = parts().compilations.compile_now(version.passport, version.version_id)
    proven = compilation.engine == "onnx"
    record_action(
        "verify_model",
        outcome="success" if proven else "failure",
        reason=compilation.reason,
        actor="cli",
        model_id=version.model_id,
        model_name=version.name,
        model_version=version.version,
    )
    click.echo(f"{version.name}@{version.version}: {_describe(compilation)}")
    sys.exit(0 if proven else 1)


@models.command("release")
@click.argument("reference")
def release(reference: str) -> None:
    """Serve a quarantined model again and forget its strikes.

    REFERENCE is ID@VERSION, or the SHA-256 of the file, as the log and the admin page give them.
    """
    details = {"reference": reference[:128]}
    with clear_errors():
        try:
            released = parts().quarantine.release(reference)
        except AppError as error:
            reason = type(error).__name__
            record_action(
                "release_model", outcome="failure", reason=reason, details=details, actor="cli"
            )
            raise
    for version in released:
        record_action(
            "release_model",
            details=details,
            actor="cli",
            model_id=version.model_id,
            model_name=version.model_name,
            model_version=version.version,
            digest=version.digest,
        )
        click.echo(f"{version.model_name}@{version.version} is released; id {version.model_id}")


@models.command("revalidate")
@click.argument("reference", required=False)
def revalidate(reference: str | None) -> None:
    """Judge stored models again, as uploads are; workers follow within 2 s.

    REFERENCE is ID or ID@VERSION; without it, all. Exit status 1 means that one is not served.
    """
    with clear_errors():
        accepted = judge_again(parts().acceptance.find(reference))
    sys.exit(0 if accepted else 1)


def judge_again(digests: list[str]) -> bool:
    """Judge files again, print and log what became of each; tell whether all were accepted."""
    accepted = True
    for digest in digests:
        for judged in parts().acceptance.judge_again(digest):
            record_action(
                "revalidate_model",
                outcome="failure" if judged.error else "success",
                reason=_reason(judged.error),
                actor="cli",
                model_id=judged.model_id,
                model_name=judged.model_name,
                model_version=judged.version,
                digest=digest,
            )
            because = f": {judged.error.message}" if judged.error else ""
            name = f"{judged.model_name}@{judged.version}"
            click.echo(f"{name} is {judged.outcome}{because}; id {judged.model_id}")
            accepted = accepted and judged.error is None
    return accepted


def _reason(error: AppError | None) -> str | None:
    return None if error is None else error.details.get("reason", error.message)


def _describe(compilation: Compilation) -> str:
    if compilation.engine == "sklearn":
        return f"stays on scikit-learn: {compilation.reason}"
    return (
        f"equal on {compilation.verified_rows:,} rows, to {compilation.max_difference:.1g};"
        f" served by ONNX Runtime, {compilation.speed_up} times as fast"
    )


def _as_json(found: Inspection) -> dict[str, Any]:
    return {"verdict": "refused" if found.is_refused else "allowed", **asdict(found)}


def _print(file: Path, found: Inspection) -> None:
    out = console()
    out.print(f"{escape(str(file))}: {found.bytes:,} bytes, {found.stream_bytes:,} unpacked")
    version = found.sklearn_version or "unknown"
    out.print(f"protocol {found.protocol or 'unknown'}, scikit-learn {escape(version)}")
    out.print(
        f"{found.objects:,} objects, {found.arrays:,} arrays of {found.array_bytes:,} bytes\n"
    )
    for part in found.parts:
        place = f"{part.place}: " if part.place else ""
        out.print("  " * part.depth + escape(f"{place}{part.name}"))
    out.print()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("Name", overflow="fold")
    table.add_column("Used as")
    for used in found.names:
        style = "bold red" if used.role == "refused" else ""
        table.add_row(escape(used.name), used.role, style=style)
    out.print(table)
    out.print()
    if not found.is_refused:
        out.print("allowed: loading it would go on to check what its parts are", style="green")
    for refusal in found.refusals:
        text = f"refused, {refusal['reason']}: {refusal['message']}"
        out.print(escape(text), style="bold red", soft_wrap=True)
