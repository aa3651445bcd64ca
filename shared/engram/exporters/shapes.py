"""The table of shapes. A new one is one file and one row here."""

from engram.errors import UsageError
from engram.exporters import agentmemory, mem0, native
from engram.exporters.shape import Shape

SHAPES: tuple[Shape, ...] = (native.SHAPE, mem0.SHAPE, agentmemory.SHAPE)


def by_name(name: str) -> Shape:
    """Return the shape called ``name``.

    Raises:
        UsageError: there is none.
    """
    for candidate in SHAPES:
        if candidate.name == name:
            return candidate
    known = ", ".join(shape.name for shape in SHAPES)
    raise UsageError("unknown_shape", "There is no such export format.", cure=f"Known: {known}.")
