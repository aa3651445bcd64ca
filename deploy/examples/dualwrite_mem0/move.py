"""Moves a mem0 store that is written to all the while into engram, and counts what was lost.

Start ``engram up``, set ENGRAM_URL, ENGRAM_API_KEY and ENGRAM_NATS_URL as it says, then
``python deploy/examples/dualwrite_mem0/move.py``. With a mem0 of your own, replace the line that
makes ``old``. Ends with 1 when a single write is missing.
"""

import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from mem0_like import Memory

from engram.client import Client
from engram.dualwrite import DualWriter

USERS = ("alice", "bob", "carol")


class Application:
    """What goes on all the while: it adds, changes, deletes and searches in one thread."""

    def __init__(self, memory):
        self.memory, self.calls = memory, Counter()
        self._random, self._stop = random.Random(7), threading.Event()  # noqa: S311 - an example
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _run(self):
        known = []
        while not self._stop.wait(0.005):
            self._one(known)

    def _one(self, known):
        said = f"fact {self.calls.total()}"
        kind = self._random.choice(("add", "add", "add", "update", "delete", "search"))
        if kind == "add" or not known:
            kind, user = "add", self._random.choice(USERS)
            known += [row["id"] for row in self.memory.add(said, user_id=user)["results"]]
        elif kind == "update":
            self.memory.update(self._random.choice(known), said)
        elif kind == "delete":
            self.memory.delete(known.pop(self._random.randrange(len(known))))
        else:
            self.memory.search("fact", user_id=self._random.choice(USERS), limit=5)
        self.calls[kind] += 1


def move(folder, client):
    old = Memory(folder / "mem0.sqlite")
    for n in range(300):
        old.add(f"from before {n}", user_id=USERS[n % 3])
    with DualWriter(
        old, workspace=client.workspace()["id"], journal=folder / "journal", engram=client
    ) as memory:
        with Application(memory) as application:
            time.sleep(0.5)
            memory.set_phase("dual-write")
            export = old.get_all(limit=1_000_000)
            report = client.request("POST", "/v1/memories/import", body=export)
            told = (report["imported"], report["duplicates"], report["skipped"])
            print("import: {} imported, {} there already, {} deleted since".format(*told))
            for phase in ("shadow-read", "new-reads", "shadow-read", "new-reads"):
                memory.set_phase(phase)
                time.sleep(0.5)
                print(f"{phase}: {dict(application.calls)}")
        drained = memory.drain(60)
        print(json.dumps({"pending": memory.stats().pending, "put": memory.stats().put}))
    return drained, {row["id"]: row["memory"] for row in old.get_all(limit=1_000_000)["results"]}


def lost(client, expected, patience_s=30.0):
    """Return the ids that differ, once engram has taken what is on its stream."""
    give_up_at_s = time.monotonic() + patience_s
    while True:
        held = {}
        for state in ("active", "merged"):
            for record in client.list(page_size=500, source="mem0", state=state):
                held[record["external_id"]] = record["content"]
        differing = {key for key, _ in held.items() ^ expected.items()}
        if not differing or time.monotonic() > give_up_at_s:
            return differing
        time.sleep(0.2)


def main():
    with tempfile.TemporaryDirectory() as name, Client() as client:
        drained, expected = move(Path(name), client)
        differing = lost(client, expected)
    print(f"{len(expected)} memories, {len(differing)} lost or different")
    return 0 if drained and not differing else 1


if __name__ == "__main__":
    sys.exit(main())
