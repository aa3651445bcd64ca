"""``engram dedup judge``, ``score`` and ``calibrate``: how pairs of texts are decided."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engram_cli import output
from engram_cli.options import AsJson

if TYPE_CHECKING:
    from engram.domain.dedup_decision import Thresholds
    from engram.domain.dedup_score import Score
    from engram.settings import Settings
    from engram_cli.dedup_pairs import Pair

_COLUMNS = ("label", "category", "pairs", "merged", "proposed", "conflicts", "wrong_survivors")


def register(group: typer.Typer) -> None:
    """Add the commands to the group ``dedup``."""
    group.command("judge")(judge)
    group.command("score")(score)
    group.command("calibrate")(calibrate)


def judge(
    as_json: Annotated[  # noqa: ARG001 - its output is JSON anyway
        bool, typer.Option("--json", help="Taken for consistency: it always writes JSON lines.")
    ] = False,
) -> None:
    """Read pairs as JSON lines (id, a, b) and write what the sweep would decide on each."""
    from engram.settings import load
    from engram_cli.dedup_pairs import in_batches, read_pairs

    for (pair_id, _, _), made in in_batches(load(), read_pairs(sys.stdin)):
        said = {
            "id": pair_id,
            "cosine": round(made.cosine, 6),
            "guard": made.guard.value,
            "decision": made.action.value,
            "reason": None if made.reason is None else made.reason.value,
            "survivor": made.survivor,
            "rule_version": made.rule_version,
        }
        print(json.dumps(said), flush=True)


def score(
    file: Annotated[Path, typer.Argument(help="Labelled pairs, one JSON object a line.")],
    as_json: AsJson = False,
) -> None:
    """Hold decisions against labelled pairs: false merges, recall, both by category."""
    from engram.domain.dedup_score import score as scored
    from engram.settings import load
    from engram_cli.dedup_pairs import in_batches, read_labelled

    pairs = read_labelled(file)
    settings = load()
    decisions = {
        pair_id: made
        for (pair_id, _, _), made in in_batches(settings, ((p.id, p.a, p.b) for p in pairs))
    }
    found = scored(pairs, decisions)
    shown = {"space": settings.space.key, "pairs": len(pairs), **asdict(found)}
    output.show(shown, as_json=as_json, people=lambda: _show(found, shown))
    if found.false_merges:
        raise typer.Exit(1)


def calibrate(
    file: Annotated[
        Path | None,
        typer.Argument(help="Pairs that say the same, as for judge; default: those that ship."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the thresholds, but do not store them.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Derive a space's thresholds from restatements, and store them with the space."""
    from engram.settings import load
    from engram_cli.dedup_pairs import lines_of, read_pairs

    settings = load()
    pairs = _shipped() if file is None else list(read_pairs(lines_of(file)))
    cosines = asyncio.run(_cosines(settings, pairs))
    found = _thresholds(cosines)
    stored = not dry_run and settings.database_url is not None
    if stored:
        asyncio.run(_store(settings, found))
    shown = {
        "space": settings.space.key, "pairs": len(cosines), "merge": found.merge,
        "propose": found.propose, "least": round(min(cosines), 4), "stored": stored,
    }  # fmt: skip

    def people() -> None:
        output.line(
            f"{shown['space']}: pairs are read from a cosine of {found.propose:g} on "
            f"({len(cosines)} restatements, the least alike at {min(cosines):.3f})."
        )
        output.line("Stored with the space." if stored else "Not stored.", "dim")

    output.show(shown, as_json=as_json, people=people)


def _shipped() -> list[Pair]:
    from engram.domain.restatements import shipped

    return [(str(number), a, b) for number, (a, b) in enumerate(shipped(), 1)]


async def _cosines(settings: Settings, pairs: Sequence[Pair]) -> list[float]:
    from engram_cli.dedup_pairs import cosines_of, provider_of

    provider = provider_of(settings)
    try:
        return await cosines_of(provider, pairs)
    finally:
        await provider.close()


def _thresholds(cosines: list[float]) -> Thresholds:
    from engram.domain.dedup_thresholds import calibrated
    from engram.errors import InvalidError

    try:
        return calibrated(cosines)
    except ValueError as error:
        raise InvalidError(
            "not_calibrated", f"The thresholds cannot be derived: {error}.",
            cure="Give at least twenty pairs that say the same in other words.",
        ) from error  # fmt: skip


async def _store(settings: Settings, found: Thresholds) -> None:
    from engram.errors import NotFoundError
    from engram.storage import deduplicating
    from engram.storage.connection import open_pool

    url = settings.require_database()
    async with (
        await open_pool(url, "engram_worker", size=1, name="calibrate") as pool,
        pool.acquire() as connection,
    ):
        if not await deduplicating.set_thresholds(connection, settings.space.key, found):
            raise NotFoundError(
                "space_not_found", f"The store has no space {settings.space.key}.",
                cure="Set ENGRAM_EMBEDDING to the store's own space; `engram status` names it.",
            )  # fmt: skip


def _show(found: Score, shown: dict[str, Any]) -> None:
    rows = [[getattr(row, name) for name in _COLUMNS] for row in found.categories]
    output.table(_COLUMNS, rows, empty="No pairs.")
    output.line()
    output.line(f"{shown['space']}, {shown['pairs']:,} pairs", "bold")
    rates = {
        f"false merges ({found.false_merges} of {found.merges})": found.false_merge_rate,
        "recall: duplicates merged": found.recall,
        "duplicates merged or proposed": found.reached,
        "distinct pairs proposed": found.proposed_distinct,
    }
    output.table(("rate", "share"), list(rates.items()), empty="")
