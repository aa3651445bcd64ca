"""What a client was told is durable, kept apart from the store that is to be held against it."""

import asyncio
import contextlib
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import httpx

# The pace of a client's own retry.
_AGAIN_S = 0.05
_BUSY = (429, 503)


@dataclass(repr=False)
class Ledger:
    """Every answer that promised something.

    Attributes:
        accepted: the present text by id.
        deleted: ids of what was erased.
        cut: requests that got no answer and were sent again.
    """

    accepted: dict[UUID, str] = field(default_factory=dict)
    deleted: set[UUID] = field(default_factory=set)
    cut: int = 0

    async def post(self, client: httpx.AsyncClient, content: str, key: str = "") -> UUID:
        """Send one memory until it is accepted, always with the same key, and note its id.

        Texts must differ: then an answer that folds them means one request was done twice.
        """
        headers = {"Idempotency-Key": key or str(uuid4())}
        body = {"content": content}
        answer = await self._insist(client, "POST", "/v1/memories", json=body, headers=headers)
        assert answer.status_code == 201, answer.text
        memory_id = UUID(answer.json()["id"])
        self.accepted[memory_id] = content
        return memory_id

    async def change(self, client: httpx.AsyncClient, memory_id: UUID, content: str) -> None:
        """Give a memory another text, asking until that is acknowledged."""
        path = f"/v1/memories/{memory_id}"
        answer = await self._insist(client, "PATCH", path, json={"content": content})
        assert answer.status_code == 200, answer.text
        self.accepted[memory_id] = content

    async def delete(self, client: httpx.AsyncClient, memory_id: UUID) -> None:
        """Erase a memory, asking until that is acknowledged: at last by "there is none"."""
        answer = await self._insist(client, "DELETE", f"/v1/memories/{memory_id}")
        assert answer.status_code in (204, 404), answer.text
        del self.accepted[memory_id]
        self.deleted.add(memory_id)

    async def _insist(
        self, client: httpx.AsyncClient, verb: str, path: str, **options: object
    ) -> httpx.Response:
        while True:
            with contextlib.suppress(httpx.TransportError):
                answer = await client.request(verb, path, **options)  # type: ignore[arg-type]  # httpx's own
                if answer.status_code not in _BUSY:
                    return answer
            self.cut += 1
            await asyncio.sleep(_AGAIN_S)
