"""``engram add``, ``search`` and ``context``: single memories in and out."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import typer

from engram.errors import UsageError
from engram_cli import output
from engram_cli.options import AsJson, Limit, Namespace, open_client

ContextFormat = Literal["bullets", "text", "xml"]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(add)
    app.command()(search)
    app.command()(context)


def add(
    text: Annotated[str, typer.Argument(help="What to remember; - reads standard input.")],
    namespace: Annotated[
        str | None, typer.Option(help="Namespace, such as user:alice; default: from the ids.")
    ] = None,
    user: Annotated[str | None, typer.Option(help="User id the memory belongs to.")] = None,
    agent: Annotated[str | None, typer.Option(help="Agent id the memory belongs to.")] = None,
    metadata: Annotated[str | None, typer.Option(help="A JSON object kept with it.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Return once it is searchable.")] = False,
    as_json: AsJson = False,
) -> None:
    """Store one memory."""
    fields: dict[str, Any] = {"namespace": namespace, "user_id": user, "agent_id": agent}
    given = {name: value for name, value in fields.items() if value is not None}
    if metadata is not None:
        given["metadata"] = _json_object(metadata)
    with open_client() as client:
        record = client.add(_text(text), wait="embedded" if wait else None, **given)
    verb = "folded into" if record.get("folded") else "stored"
    output.show(
        record,
        as_json=as_json,
        people=lambda: output.line(f"{verb} {record['id']} in {record['namespace']}"),
    )


def search(
    query: Annotated[str, typer.Argument(help="What to look for.")],
    namespace: Namespace = None,
    limit: Limit = 10,
    as_json: AsJson = False,
) -> None:
    """Find the memories nearest to a query."""
    narrowed: Any = {} if namespace is None else {"namespace": namespace}
    with open_client() as client:
        found = client.search(query, limit=limit, **narrowed)

    def people() -> None:
        if found["degraded"]:
            output.line("Vectors cannot be had right now: these are full-text matches.", "yellow")
        rows = [
            (hit["score"], hit["memory"]["content"], hit["memory"]["namespace"])
            for hit in found["results"]
        ]
        output.table(("score", "text", "namespace"), rows, empty="Nothing found.")

    output.show(found, as_json=as_json, people=people)


def context(
    query: Annotated[str, typer.Argument(help="What the prompt is about.")],
    namespace: Namespace = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of the text.")] = 1000,
    format_: Annotated[
        ContextFormat, typer.Option("--format", help="How it is written.")
    ] = "bullets",
    as_json: AsJson = False,
) -> None:
    """Write what is known about a query as text for a prompt."""
    narrowed: Any = {} if namespace is None else {"namespace": namespace}
    with open_client() as client:
        made = client.context(query, max_tokens=max_tokens, format=format_, **narrowed)
    output.show(made, as_json=as_json, people=lambda: output.line(made["context"]))


def _text(argument: str) -> str:
    return typer.get_text_stream("stdin").read() if argument == "-" else argument


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError("usage", "--metadata is not JSON.") from error
    if not isinstance(value, dict):
        raise UsageError("usage", "--metadata is no JSON object.")
    return value
