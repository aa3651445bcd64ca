"""Prepares a store: schema, roles, spaces, streams, a first workspace and key."""

import asyncio
import contextlib

from engram.broker.connection import connect
from engram.broker.topology import reconcile
from engram.domain.spaces import SpaceSpec
from engram.embedding.probe import probe
from engram.embedding.provider import ProviderError
from engram.embedding.registry import open_provider
from engram.errors import UnavailableError
from engram.settings import Settings, load
from engram.storage import keys, spaces
from engram.storage.connection import about, connect_owner, open_pool
from engram.storage.migrate import migrate
from engram_cli.runtime.up import BootstrapResult

WORKSPACE = "default"
_SCOPES = ("memories", "operator")


async def bootstrap(database_url: str, nats_url: str, needs_key: bool = False) -> BootstrapResult:
    """Make everything a service expects to find; safe to repeat.

    Args:
        database_url: a login that owns the database and may create roles.
        nats_url: the broker.
        needs_key: make a key even if there are some, because theirs are lost.

    Returns:
        An API key when one was made now; it is not shown again.

    Raises:
        EngramError: a server cannot be used, or the provider of a new space cannot be asked.
    """
    settings = load()
    await migrate(database_url)
    api_key, _ = await asyncio.gather(
        _prepare_store(database_url, settings, needs_key), _prepare_broker(nats_url, settings)
    )
    return BootstrapResult(api_key)


async def _prepare_store(database_url: str, settings: Settings, needs_key: bool) -> str | None:
    space = await _space(database_url, settings)
    async with await open_pool(database_url, "engram_worker", size=2, name="bootstrap") as pool:
        async with pool.acquire() as connection:
            workspace = await keys.ensure_workspace(connection, WORKSPACE, space)
        async with about(pool, [workspace]) as connection:
            if not needs_key and await keys.list_keys(connection, workspace, "", 1):
                return None
            key, _ = await keys.create_key(
                connection, workspace, "first key", _SCOPES, None, "bootstrap"
            )
    return key.text


async def _space(database_url: str, settings: Settings) -> int:
    """Return the space new workspaces read, making the first one."""
    connection = await connect_owner(database_url)
    try:
        known = await spaces.all_spaces(connection)
        if known:
            return known[0].id
        deterministic = await _probed(settings.space, settings)
        made = await spaces.create_space(connection, settings.space, deterministic=deterministic)
        return made.id
    finally:
        await connection.close()


async def _probed(spec: SpaceSpec, settings: Settings) -> bool:
    """Ask the provider before anything is stored with it; whether it is deterministic."""
    provider = open_provider(spec, settings.providers)
    try:
        return (await probe(provider)).deterministic
    except ProviderError as error:
        raise UnavailableError(
            "provider_unavailable",
            f"{spec.key} cannot be asked: {error.detail}",
            cure="Check the key and the address, or set ENGRAM_EMBEDDING=minilm to embed here.",
        ) from error
    finally:
        with contextlib.suppress(Exception):
            await provider.close()


async def _prepare_broker(nats_url: str, settings: Settings) -> None:
    broker = await connect(nats_url, "bootstrap")
    try:
        # Streams only: the durables of spaces are made by whoever starts with that space.
        await reconcile(
            broker.jetstream(),
            [],
            replicas=settings.replicas,
            max_bytes=settings.stream_max_bytes,
        )
    finally:
        await broker.close()
