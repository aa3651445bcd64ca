"""Which model of its family embeds for a space, and which one made each vector."""

from engram.domain.spaces import with_model
from engram.errors import NotFoundError
from engram.storage.connection import Connection
from engram.storage.queries import over_vectors, statement
from engram.storage.spaces import Space, all_spaces


async def embed_with(connection: Connection, space_id: int, model: str, actor: str) -> Space:
    """Let another model of the family embed for a space from now on; nothing is embedded again.

    Every process follows within seconds. Vectors that exist stay, and say who made them.

    Args:
        connection: of the worker role, in a transaction.
        space_id: of an active space.
        model: the provider's own name of it.
        actor: who asked.

    Raises:
        NotFoundError: there is no such active space.
        ConflictError: ``not_compatible``: the model is of another family.
    """
    if await connection.fetchval(statement("space", "lock"), space_id) is None:
        raise _unknown(space_id)
    space = await find(connection, space_id)
    with_model(space.spec, model)
    if model != space.spec.model:
        await connection.execute(statement("space", "add_model"), space_id, model, actor)
    await connection.execute(statement("space", "embed_with"), space_id, model)
    await connection.execute("NOTIFY engram_spaces")
    return await find(connection, space_id)


async def made_by(connection: Connection, space_id: int) -> dict[str, int]:
    """Return how many vectors of a space each model made; reads the whole table."""
    rows = await connection.fetch(over_vectors("space", "made_by", space_id), space_id)
    return {row["model"]: row["vectors"] for row in rows}


async def find(connection: Connection, space_id: int) -> Space:
    """Return a space.

    Raises:
        NotFoundError: there is none of this id.
    """
    for space in await all_spaces(connection):
        if space.id == space_id:
            return space
    raise _unknown(space_id)


def _unknown(space_id: int) -> NotFoundError:
    return NotFoundError(
        "space_not_found",
        f"There is no active space {space_id}.",
        cure="`engram spaces list` names those there are.",
    )
