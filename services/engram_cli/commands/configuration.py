"""``engram config``: every setting, its value, where that comes from, and what it means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import typer

from engram_cli import output
from engram_cli.options import AsJson

if TYPE_CHECKING:
    from engram.settings import Settings

MASK: Final = "********"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("config")(config)


def config(as_json: AsJson = False) -> None:
    """Show every setting; secrets are masked."""
    from engram.settings import load

    rows = describe(load())

    def people() -> None:
        output.table(
            ("setting", "value", "source", "description"),
            [(row["name"], row["value"], row["source"], row["description"]) for row in rows],
            empty="No settings.",
        )

    output.show({"settings": rows}, as_json=as_json, people=people)


def describe(settings: Settings) -> list[dict[str, Any]]:
    """Return name, value (masked when secret), default, source and description of each setting."""
    from engram.settings import variable_names

    names = variable_names()
    return [
        {
            "name": names[field],
            "value": _masked(getattr(settings, field)),
            "default": _masked(info.default),
            "source": "environment" if field in settings.model_fields_set else "default",
            "description": info.description or "",
        }
        for field, info in type(settings).model_fields.items()
    ]


def _masked(value: Any) -> Any:
    from pydantic import SecretStr

    if isinstance(value, SecretStr):
        return MASK
    return value if isinstance(value, bool | int | float | str | None) else str(value)
