"""Who is asking: API keys from the Authorization header, looked up and remembered for seconds."""

import time
from dataclasses import dataclass
from uuid import UUID

from engram.domain.keys import ApiKey, parse_key
from engram.errors import ForbiddenError, UnauthenticatedError
from engram.storage.connection import Pool, reachable
from engram.storage.keys import StoredKey, find_key

# A revoked key stops working within this time (scorecard R31 allows five seconds).
_REMEMBER_S = 3.0
_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller."""

    workspace: UUID
    workspace_name: str
    key_id: str
    scopes: tuple[str, ...]

    def require(self, scope: str) -> None:
        """Refuse a key without this scope.

        Raises:
            ForbiddenError: the key lacks it.
        """
        if scope not in self.scopes:
            raise ForbiddenError(
                "scope_missing",
                f"This key lacks the scope {scope}.",
                cure=f"Use a key made with --scope {scope}.",
            )


class Authenticator:
    """Turns an Authorization header into a principal.

    Args:
        pool: of the worker role: the key is what tells the workspace.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._found: dict[str, tuple[float, StoredKey | None]] = {}

    async def principal(self, header: str | None) -> Principal:
        """Return who sent ``Bearer KEY`` or ``Token KEY``.

        Raises:
            UnauthenticatedError: no key, a mistyped one, or none that is known and live.
            UnavailableError: Postgres cannot be asked.
        """
        key = _sent_key(header)
        stored = await self._lookup(key.id)
        if stored is None or not key.matches(stored.secret_sha256):
            raise _unauthenticated("The API key is unknown, revoked or expired.")
        return Principal(stored.workspace, stored.workspace_name, stored.id, stored.scopes)

    async def _lookup(self, key_id: str) -> StoredKey | None:
        now = time.monotonic()
        remembered = self._found.get(key_id)
        if remembered and now - remembered[0] < _REMEMBER_S:
            return remembered[1]
        async with reachable(), self._pool.acquire() as connection:
            stored = await find_key(connection, key_id)
        if len(self._found) >= _REMEMBERED:
            self._found.clear()
        self._found[key_id] = (now, stored)
        return stored


def _sent_key(header: str | None) -> ApiKey:
    if not header:
        raise _unauthenticated("The request carries no API key.")
    scheme, _, text = header.partition(" ")
    if scheme.lower() not in ("bearer", "token"):
        raise _unauthenticated("The Authorization header is neither Bearer nor Token.")
    key = parse_key(text.strip())
    if key is None:
        raise _unauthenticated("The API key is mistyped or cut short (its checksum is wrong).")
    return key


def _unauthenticated(detail: str) -> UnauthenticatedError:
    return UnauthenticatedError(
        "unauthenticated", detail, cure="Send Authorization: Bearer engram_live_…"
    )
