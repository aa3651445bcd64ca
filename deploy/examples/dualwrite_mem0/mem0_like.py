"""A stand-in for ``mem0.Memory`` 1.x that needs no model: its calls and answers, over SQLite."""

import hashlib
import json
import sqlite3
import threading
import uuid
from datetime import UTC, datetime


class Memory:
    def __init__(self, path):
        self._lock = threading.Lock()
        self._sql = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._sql.execute("CREATE TABLE IF NOT EXISTS memory (id TEXT PRIMARY KEY, row TEXT)")

    def add(self, messages, *, user_id, metadata=None):
        texts = [messages] if isinstance(messages, str) else [m["content"] for m in messages]
        return {"results": [self._store(text, user_id, metadata) for text in texts if text]}

    def get(self, memory_id):
        found = self._run("SELECT row FROM memory WHERE id = ?", memory_id)
        return json.loads(found[0][0]) if found else None

    def get_all(self, *, user_id=None, limit=100):
        rows = [json.loads(row) for (row,) in self._run("SELECT row FROM memory ORDER BY rowid")]
        return {"results": [row for row in rows if user_id in (None, row["user_id"])][:limit]}

    def search(self, query, *, user_id, limit=100):
        words = set(query.split())
        rows = self.get_all(user_id=user_id, limit=1_000_000)["results"]
        ranked = sorted(rows, key=lambda row: -len(words & set(row["memory"].split())))
        return {"results": ranked[:limit]}

    def update(self, memory_id, data):
        row = self.get(memory_id)
        if row is None:
            raise ValueError(f"Memory with id {memory_id} not found")
        self._put({**row, "memory": data, "hash": _md5(data), "updated_at": _now()})
        return {"message": "Memory updated successfully!"}

    def delete(self, memory_id):
        self._run("DELETE FROM memory WHERE id = ?", memory_id)
        return {"message": "Memory deleted successfully!"}

    def _store(self, text, user_id, metadata):
        named = str(uuid.uuid4())
        row = {"id": named, "memory": text, "hash": _md5(text), "user_id": user_id}
        told = {"created_at": _now(), "updated_at": None}
        self._put({**row, **told, **({"metadata": metadata} if metadata else {})})
        return {"id": named, "memory": text, "event": "ADD"}

    def _put(self, row):
        self._run("INSERT OR REPLACE INTO memory VALUES (?, ?)", row["id"], json.dumps(row))

    def _run(self, statement, *parameters):
        with self._lock:
            return self._sql.execute(statement, parameters).fetchall()


def _md5(text):
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _now():
    return datetime.now(UTC).isoformat()
