"""What the demo shows of near-duplicates: a dry run, the run itself, and the whole of it undone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from engram_cli import output

if TYPE_CHECKING:
    from engram.client import AsyncClient

_ROUTE: Final = "/v1/dedup/runs"
_LOOK_S: Final = 0.1
_SHOWN: Final = 5
NAMESPACE: Final = "user:erin"
# Said twice in other words, and twice almost in the same words with another fact.
TEXTS: Final = (
    "Prefers an aisle seat on flights longer than 2 hours.",
    "The user mentioned that they prefer an aisle seat on flights longer than two hours.",
    "Bob reports to Ingrid.",
    "Ingrid manages Bob.",
    "Orders 2.5 kg of flour every week.",
    "Every week orders 2500 g of flour.",
    "Is allergic to penicillin.",
    "Is not allergic to penicillin.",
    "Standup starts at 9:30 am on Tuesdays.",
    "Standup starts at 10:30 am on Tuesdays.",
)


async def show_duplicates(client: AsyncClient) -> dict[str, Any]:
    """Show what would be merged, merge it, take it back, and return what came of each."""
    await _said_twice(client)
    rehearsed = await _run(client, {"dry_run": True})
    counts = rehearsed["counts"]
    output.line(
        f"\nNear-duplicates, dry run: {counts.get('pairs', 0):,} near pairs read, "
        f"{counts.get('would_merge', 0):,} memories would be merged, "
        f"{counts.get('would_propose', 0):,} pairs shown to a person, "
        f"{counts.get('would_conflict', 0):,} contradict each other.",
        "bold",
    )
    preview = await client.request("GET", f"{_ROUTE}/{rehearsed['id']}/preview", limit=_SHOWN)
    rows = [(one["survivor"]["content"], one["members"][0]["content"]) for one in preview["items"]]
    output.table(("would stay", "would go into it"), rows, empty="Nothing is left to merge.")
    merged = await _run(client, {"namespace": NAMESPACE})
    undone = await client.request("POST", f"{_ROUTE}/{merged['id']}/undo")
    output.line(
        f"Merged {merged['merged']:,} memories, and undid the run: "
        f"{undone['restored']:,} are themselves again.",
        "green",
    )
    return {"dry_run": counts, "merged": merged["merged"], "restored": undone["restored"]}


async def _said_twice(client: AsyncClient) -> None:
    """Store the texts anew: what an earlier demo undid would not be merged again."""
    async for memory in client.pages("/v1/memories", {"namespace": NAMESPACE}):
        await client.request("DELETE", f"/v1/memories/{memory['id']}")
    for text in TEXTS:
        body = {"content": text, "namespace": NAMESPACE}
        await client.request("POST", "/v1/memories", body=body, wait="embedded")


async def _run(client: AsyncClient, options: dict[str, Any]) -> dict[str, Any]:
    run: dict[str, Any] = await client.request("POST", _ROUTE, body=options)
    while run["state"] == "running":
        await asyncio.sleep(_LOOK_S)
        run = await client.request("GET", f"{_ROUTE}/{run['id']}")
    return run
