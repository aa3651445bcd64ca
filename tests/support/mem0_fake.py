"""mem0 clients with the signatures and answers of the released wheels, over a dictionary.

Observed with mem0ai 0.1.118, 1.0.0 and 2.2.1: names and kinds of parameters, shapes of answers,
what an unknown id does. Extraction is a rule here: a message "A and B" gives the facts A and B;
"forget X" deletes the memory X, and "no longer X but Y" changes it.
"""

import hashlib
import json
import sqlite3
import threading
import uuid
from datetime import UTC, datetime


class Rows:
    """What a mem0 store holds, shared by clients; a file survives the process."""

    def __init__(self, path=":memory:"):
        self._lock = threading.Lock()
        self._sql = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._sql.execute("PRAGMA synchronous = OFF")
        self._sql.execute("CREATE TABLE IF NOT EXISTS row (id TEXT PRIMARY KEY, body TEXT)")

    def all(self):
        with self._lock:
            found = self._sql.execute("SELECT body FROM row ORDER BY rowid").fetchall()
        return [json.loads(body) for (body,) in found]

    def get(self, named):
        with self._lock:
            found = self._sql.execute("SELECT body FROM row WHERE id = ?", (named,)).fetchone()
        return json.loads(found[0]) if found else None

    def put(self, row):
        with self._lock:
            self._sql.execute(
                "INSERT INTO row VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET body = excluded.body",
                (row["id"], json.dumps(row)),
            )

    def drop(self, named):
        with self._lock:
            return self._sql.execute("DELETE FROM row WHERE id = ?", (named,)).rowcount


class Memory:
    """``mem0.Memory`` 1.0.0."""

    def __init__(self, rows=None):
        self.rows = rows or Rows()

    def add(
        self, messages, *, user_id=None, agent_id=None, run_id=None, metadata=None, infer=True,
        memory_type=None, prompt=None,
    ):  # fmt: skip
        owners = {"user_id": user_id, "agent_id": agent_id, "run_id": run_id}
        if not any(owners.values()):
            raise ValueError("At least one of 'user_id', 'agent_id', or 'run_id' must be provided.")
        return {"results": self._add(messages, owners, metadata, infer=infer)}

    def get(self, memory_id):
        return self.rows.get(memory_id)

    def get_all(self, *, user_id=None, agent_id=None, run_id=None, filters=None, limit=100):
        owners = {"user_id": user_id, "agent_id": agent_id, "run_id": run_id}
        return {"results": self._found(owners)[:limit]}

    def search(
        self, query, *, user_id=None, agent_id=None, run_id=None, limit=100, filters=None,
        threshold=None, rerank=True,
    ):  # fmt: skip
        owners = {"user_id": user_id, "agent_id": agent_id, "run_id": run_id}
        return {"results": self._ranked(query, owners)[:limit]}

    def update(self, memory_id, data):
        self._update(memory_id, data)
        return {"message": "Memory updated successfully!"}

    def delete(self, memory_id):
        if not self.rows.drop(memory_id):
            raise ValueError(f"Memory with id {memory_id} not found")
        return {"message": "Memory deleted successfully!"}

    def delete_all(self, user_id=None, agent_id=None, run_id=None):
        for row in self._found({"user_id": user_id, "agent_id": agent_id, "run_id": run_id}):
            self.rows.drop(row["id"])
        return {"message": "Memories deleted successfully!"}

    def _add(self, messages, owners, metadata, *, infer):
        texts = [messages] if isinstance(messages, str) else [m["content"] for m in messages]
        if not infer:
            return [self._stored(text, owners, metadata) for text in texts]
        facts = [fact.strip() for text in texts for fact in text.split(" and ")]
        return [self._learnt(fact, owners, metadata) for fact in facts]

    def _learnt(self, fact, owners, metadata):
        if fact.startswith("forget "):
            old = self._named(fact.removeprefix("forget "), owners)
            self.rows.drop(old["id"])
            return {"id": old["id"], "memory": old["memory"], "event": "DELETE"}
        if fact.startswith("no longer "):
            said, _, new = fact.removeprefix("no longer ").partition(" but ")
            old = self._named(said, owners)
            self._update(old["id"], new)
            return {"id": old["id"], "memory": new, "event": "UPDATE", "previous_memory": said}
        return self._stored(fact, owners, metadata)

    def _stored(self, text, owners, metadata):
        row = {
            "id": str(uuid.uuid4()),
            "memory": text,
            "hash": hashlib.md5(text.encode()).hexdigest(),
            "created_at": _now(),
            "updated_at": None,
            **{name: value for name, value in owners.items() if value},
            **({"metadata": metadata} if metadata else {}),
        }
        self.rows.put(row)
        return {"id": row["id"], "memory": text, "event": "ADD"}

    def _named(self, text, owners):
        return next(row for row in self._found(owners) if row["memory"] == text)

    def _update(self, memory_id, text):
        row = self.rows.get(memory_id)
        if row is None:
            raise ValueError(f"Memory with id {memory_id} not found.")
        digest = hashlib.md5(text.encode()).hexdigest()
        self.rows.put({**row, "memory": text, "hash": digest, "updated_at": _now()})

    def _found(self, owners):
        wanted = {name: value for name, value in owners.items() if value}
        return [r for r in self.rows.all() if all(r.get(n) == v for n, v in wanted.items())]

    def _ranked(self, query, owners):
        words = set(query.lower().split())
        found = [
            {**row, "score": len(words & set(row["memory"].lower().split())) / len(words)}
            for row in self._found(owners)
        ]
        return sorted(found, key=lambda row: -row["score"])


class Memory2(Memory):
    """``mem0.Memory`` 2.2.1: owners of reads go into ``filters``, and 20 rows come unasked."""

    def get_all(self, *, filters=None, top_k=20, show_expired=False, **kwargs):
        _refuse_owners(kwargs)
        return {"results": self._found(filters or {})[:top_k]}

    def search(
        self, query, *, top_k=20, filters=None, threshold=0.1, rerank=False, explain=False,
        reference_date=None, show_expired=False, **kwargs,
    ):  # fmt: skip
        _refuse_owners(kwargs)
        return {"results": self._ranked(query, filters or {})[:top_k]}

    def update(self, memory_id, text=None, metadata=None, expiration_date=None, data=None):
        self._update(memory_id, text or data)
        return {"message": "Memory updated successfully!"}


class MissingError(Exception):
    """What a MemoryClient raises for a 404, as far as one can tell it by."""

    status_code = 404


class MemoryClient(Memory):
    """``mem0.MemoryClient`` 2.2.1: works later on what is added, pages, and answers 404."""

    def __init__(self, rows=None):
        super().__init__(rows)
        self.work = {}
        self.client = self
        self.tells = True

    def add(self, messages, options=None, **kwargs):
        event = str(uuid.uuid4())
        self.work[event] = ([messages] if isinstance(messages, dict) else messages, kwargs)
        return {"event_id": event, "status": "PENDING", "message": "Memory processing"}

    def finish(self):
        """Do what was added so far, as the Platform does some time after its answer."""
        done = {event: self._done(*said) for event, said in self.work.items()}
        self.finished = {**getattr(self, "finished", {}), **done}
        self.work = {}

    def get(self, memory_id):
        if memory_id.startswith("/v1/event/"):
            return self._event(memory_id.split("/")[3])
        row = self.rows.get(memory_id)
        if row is None:
            raise MissingError
        return row

    def get_all(self, options=None, **kwargs):
        _refuse_owners(kwargs)
        found = self._found(kwargs.get("filters") or {})
        size, page = kwargs["page_size"], kwargs["page"]
        return {"count": len(found), "results": found[(page - 1) * size : page * size]}

    def _done(self, messages, kwargs):
        owners = {name: kwargs.get(name) for name in ("user_id", "agent_id", "run_id")}
        return self._add(messages, owners, kwargs.get("metadata"), infer=True)

    def _event(self, event):
        if not self.tells:
            return Answer(404, {"detail": "not found"})
        if event in self.work:
            return Answer(200, {"event_id": event, "status": "PENDING"})
        told = [{**r, "data": {"memory": r["memory"]}} for r in self.finished[event]]
        return Answer(200, {"event_id": event, "status": "SUCCEEDED", "results": told})


class Answer:
    """An httpx response, as far as it is looked at."""

    def __init__(self, status_code, body):
        self.status_code, self.body = status_code, body

    def json(self):
        return self.body


class AsyncMemory:
    """``mem0.AsyncMemory`` 1.0.0."""

    def __init__(self, rows=None):
        self._memory = Memory(rows)
        self.rows = self._memory.rows

    async def add(self, messages, *, user_id=None, agent_id=None, run_id=None, metadata=None):
        return self._memory.add(
            messages, user_id=user_id, agent_id=agent_id, run_id=run_id, metadata=metadata
        )

    async def get(self, memory_id):
        return self._memory.get(memory_id)

    async def get_all(self, *, user_id=None, agent_id=None, run_id=None, filters=None, limit=100):
        return self._memory.get_all(user_id=user_id, agent_id=agent_id, run_id=run_id, limit=limit)

    async def search(self, query, *, user_id=None, agent_id=None, run_id=None, limit=100):
        return self._memory.search(
            query, user_id=user_id, agent_id=agent_id, run_id=run_id, limit=limit
        )

    async def update(self, memory_id, data):
        return self._memory.update(memory_id, data)

    async def delete(self, memory_id):
        return self._memory.delete(memory_id)

    async def delete_all(self, user_id=None, agent_id=None, run_id=None):
        return self._memory.delete_all(user_id, agent_id, run_id)


def _refuse_owners(kwargs):
    if set(kwargs) & {"user_id", "agent_id", "run_id"}:
        raise ValueError("Top-level entity parameters are not supported; use filters.")


def _now():
    return datetime.now(UTC).isoformat()
