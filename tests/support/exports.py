"""One export of every format, real ones where there are any, and damage to do to them."""

import gzip
import io
import json
import random
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

EXPORTS = Path(__file__).parents[1] / "data" / "exports"
_JUNK = (b"", b'"', b"\\", b"[", b"]", b"{", b"}", b"\n", b"\0", b"\xff", b",", b"null", b"\r\n",
         b"\\ud800", b"1e400", b"NaN", b"\xef\xbb\xbf")  # fmt: skip
_USER = {"id": "u-1", "user_id": "alice"}
_OPENMEMORY = {
    "user": _USER,
    "apps": [{"id": "a-1", "owner_id": "u-1", "name": "cursor"}],
    "categories": [{"id": "c-1", "name": "pref"}],
    "memories": [
        {"id": f"m-{n}", "user_id": "u-1", "app_id": "a-1", "content": f"Likes drink {n}",
         "metadata": {"k": n}, "state": "active", "created_at": "2026-01-01T00:00:00+00:00",
         "category_ids": ["c-1"]}
        for n in range(4)
    ],
    "memory_categories": [{"memory_id": "m-1", "category_id": "c-1"}],
    "export_meta": {"version": "1"},
}  # fmt: skip
_MARKDOWN = b"""---
id: abc-1
created_at: 2024-01-01T00:00:00Z
categories: coding, learnings
---
Use tabs.

---
id: abc-2
created_at:
---
Keep it.
"""


def samples() -> dict[str, tuple[str, bytes]]:
    """Return by name of the sample the name of its file and its bytes."""
    found = {path.parent.name: (path.name, path.read_bytes()) for path in _real()}
    items = [{"content": f"tea {n}", "user_id": "a"} for n in range(5)]
    return found | {
        "native": ("items.jsonl", _lines(items)),
        "mem0-markdown": ("mem0-export.md", _MARKDOWN),
        "openmemory": ("memories.json", _json(_OPENMEMORY)),
        "openmemory-zip": ("backup.zip", _zip({"memories.json": _json(_OPENMEMORY)})),
        "zep": ("facts.json", _json({"facts": ["Likes tea", "Has a dog", "Has a dog"]})),
        "letta": ("passages.jsonl", _lines([_passage(n) for n in range(4)])),
        "supermemory": ("s.json", _json({"memories": [{"content": "Likes tea"}, {"content": "Has a"
                        " dog"}], "containerTag": "user_1"})),
        "memobase": ("m.json", _json({"data": {"profiles": [_profile(n) for n in range(3)]},
                     "errno": 0})),
        "cognee": ("memories.jsonl", _lines([_cogx(n) for n in range(3)])),
    }  # fmt: skip


def _real() -> Iterator[Path]:
    return (path for folder in sorted(EXPORTS.iterdir()) for path in folder.glob("input.*"))


def _passage(number: int) -> dict[str, Any]:
    return {"id": f"passage-{number}", "text": f"Likes tea {number}", "archive_id": "archive-1",
            "metadata": {}, "created_at": "2026-01-01T00:00:00Z", "embedding": [0.1] * 8,
            "embedding_config": {}, "organization_id": "org"}  # fmt: skip


def _profile(number: int) -> dict[str, Any]:
    about = {"topic": "basic_info", "sub_topic": "name"}
    return {"id": f"p{number}", "content": f"Alice {number}", "attributes": about,
            "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-02T00:00:00Z"}  # fmt: skip


def _cogx(number: int) -> dict[str, Any]:
    return {"external_system": "mem0", "external_id": str(number), "metadata": {},
            "scope": {"user_id": "alice"}, "kind": "memory", "content": f"Likes tea {number}",
            "categories": ["pref"]}  # fmt: skip


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _lines(items: list[dict[str, Any]]) -> bytes:
    return b"".join(_json(item) + b"\n" for item in items)


def _zip(files: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()


def damaged(data: bytes, times: int, seed: int) -> Iterator[bytes]:
    """Yield ``times`` damaged forms, the same for the same seed.

    What is compressed is damaged inside every other time: else nothing of it could be read.
    """
    chance = random.Random(seed)
    packed = data[:2] == b"\x1f\x8b"
    for number in range(times):
        if packed and number % 2:
            yield gzip.compress(_damage(gzip.decompress(data), chance))
        else:
            yield _damage(data, chance)


def _damage(data: bytes, chance: random.Random) -> bytes:
    whole = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(whole) + 1)
        kind = chance.randrange(5)
        if kind == 0:
            del whole[at:]
        elif kind == 1:
            del whole[at : at + chance.randint(1, 40)]
        elif kind == 2:
            whole[at:at] = whole[at : at + chance.randint(1, 200)]
        else:
            whole[at : at + chance.randint(0, 6)] = chance.choice(_JUNK)
    return bytes(whole)
