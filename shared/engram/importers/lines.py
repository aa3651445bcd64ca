"""Lines of a text in bounded memory: an over-long line is reported, never held."""

from collections.abc import Iterator


def lines(chunks: Iterator[bytes], max_bytes: int) -> Iterator[tuple[int, bytes | None]]:
    """Yield (number from 1, line without its end), or (number, None) for one above ``max_bytes``.

    Only a line feed ends a line: a carriage return may be part of a value.
    """
    number, size = 1, 0
    kept: list[bytes] = []
    for chunk in chunks:
        *ended, last = chunk.split(b"\n")
        for piece in ended:
            yield number, _joined(kept, piece, size, max_bytes)
            number, kept, size = number + 1, [], 0
        size += len(last)
        if size <= max_bytes:
            kept.append(last)
        else:
            kept.clear()
    if size:
        yield number, _joined(kept, b"", size, max_bytes)


def _joined(kept: list[bytes], piece: bytes, size: int, max_bytes: int) -> bytes | None:
    if size + len(piece) > max_bytes:
        return None
    kept.append(piece)
    return b"".join(kept) if len(kept) > 1 else piece
