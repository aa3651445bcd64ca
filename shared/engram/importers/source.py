"""Bytes of an export as UTF-8 chunks: gzip, byte order marks and UTF-16 undone, all bounded.

A `Source` is one text. A zip or tar archive (or a folder that the caller lists) holds several:
`engram.importers.members.open_members(source)` gives its `Member`s, or None when the source is no
archive. ``member.source()`` is a `Source` of that member, read as a stream and from its beginning
as often as needed; gzip inside it is undone as everywhere. A format that has files of several
members says which it reads, and in which order, by its ``plan`` (`engram.importers.shape.Format`):
a function from the members to `Part`s, or None when the archive is not its own. Each element then
carries ``element.member``, the name of the member it came from. An archive that no format claims
is read member by member, each as if it were imported alone.
"""

import codecs
import tempfile
import weakref
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from engram.errors import MalformedError, TooLargeError

CHUNK_BYTES = 256 * 1024
# A small file may well shrink a thousandfold (one row repeated); only a large one is a bomb.
RATIO_FREE_BYTES = 16 * 1024 * 1024
_GZIP_WITH_HEADER = 31
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class Stream(Protocol):
    """What is asked of a stream of bytes: less than files offer."""

    def read(self, size: int = ..., /) -> bytes:
        """Return up to ``size`` bytes, none at the end."""

    def seek(self, offset: int, whence: int = ..., /) -> int:
        """Go to a position."""

    def tell(self) -> int:
        """Return the position."""

    def seekable(self) -> bool:
        """Say whether positions can be sought."""

    def close(self) -> None:
        """Give back what it holds."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much an importer reads before it refuses.

    Attributes:
        max_bytes: bytes of text after decompression.
        max_ratio: decompressed over compressed bytes, above 16 MiB of text.
        max_item_bytes: bytes of one element; a longer one is skipped with a fault.
        survey_bytes: how far a large object is looked through once its shape is known.
        max_members: files in an archive.
    """

    max_bytes: int = 16 * 1024**3
    max_ratio: float = 250.0
    max_item_bytes: int = 4 * 1024**2
    survey_bytes: int = 8 * 1024**2
    max_members: int = 10_000


class Source:
    """An export that can be read from its beginning as often as needed.

    A stream that cannot seek is copied to a temporary file first: reading needs two passes.
    """

    def __init__(self, stream: Stream, limits: Limits) -> None:
        self.limits = limits
        self._stream = stream
        if not stream.seekable():
            chunks = iter(lambda: stream.read(CHUNK_BYTES), b"")
            self._stream = copy = spooled(chunks, limits)
            weakref.finalize(self, copy.close)
        self._start = self._stream.tell()

    @property
    def stream(self) -> Stream:
        """The bytes as they were given, at their beginning, for a reader that seeks in them."""
        self._stream.seek(self._start)
        return self._stream

    def first_bytes(self, size: int) -> bytes:
        """Return up to ``size`` bytes from the beginning, as they were given."""
        stream = self.stream
        found = b""
        while len(found) < size and (more := stream.read(size - len(found))):
            found += more
        return found

    def unpacked(self) -> Iterator[bytes]:
        """Yield the bytes from the beginning with gzip undone, within the limits.

        Raises:
            TooLargeError: more than the limits allow, or a decompression bomb.
            MalformedError: a damaged gzip file.
        """
        self._stream.seek(self._start)
        yield from _bounded(self._plain(), self.limits)

    def chunks(self) -> Iterator[bytes]:
        """Yield the text from its beginning, as UTF-8 without a byte order mark.

        Raises:
            TooLargeError: more text than the limits allow, or a decompression bomb.
            MalformedError: a damaged gzip file.
        """
        yield from _as_utf8(self.unpacked())

    def _plain(self) -> Iterator[bytes]:
        chunks = iter(lambda: self._stream.read(CHUNK_BYTES), b"")
        first = _at_least(chunks, 2)
        if first[:2] == b"\x1f\x8b":
            yield from self._gunzip(first)
            return
        yield first
        yield from chunks

    def _gunzip(self, data: bytes) -> Iterator[bytes]:
        unzip, taken, made = zlib.decompressobj(_GZIP_WITH_HEADER), len(data), 0
        while data:
            try:
                text = unzip.decompress(data, CHUNK_BYTES)
            except zlib.error:
                raise _bad_gzip("damaged") from None
            made += len(text)
            if made > RATIO_FREE_BYTES and made > taken * self.limits.max_ratio:
                raise bomb(self.limits)
            if text:
                yield text
            data = unzip.unconsumed_tail or (b"" if not unzip.eof else unzip.unused_data)
            if unzip.eof:
                # Zero bytes after a member are padding; anything else is another member.
                if not data:
                    data = self._stream.read(CHUNK_BYTES)
                    taken += len(data)
                data = data.lstrip(b"\0")
                unzip = zlib.decompressobj(_GZIP_WITH_HEADER) if data else unzip
            elif not data:
                data = self._stream.read(CHUNK_BYTES)
                taken += len(data)
        yield from _flush(unzip)


def _bounded(chunks: Iterator[bytes], limits: Limits) -> Iterator[bytes]:
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > limits.max_bytes:
            raise too_large(limits)
        yield chunk


def _flush(unzip: "zlib._Decompress") -> Iterator[bytes]:
    if not unzip.eof:
        raise _bad_gzip("cut off")
    rest = unzip.flush()
    if rest:
        yield rest


def spooled(chunks: Iterator[bytes], limits: Limits) -> Stream:
    """Return a temporary file of these bytes, at its beginning.

    Raises:
        TooLargeError: more than ``limits.max_bytes``; the file is gone then.
    """
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the Source that reads it
    try:
        for data in _bounded(chunks, limits):
            copy.write(data)
    except BaseException:
        copy.close()
        raise
    copy.seek(0)
    return copy


def _as_utf8(chunks: Iterator[bytes]) -> Iterator[bytes]:
    first = _at_least(chunks, 4)
    encoding, skip = _encoding_of(first)
    if encoding == "utf-8":
        yield first[skip:]
        yield from chunks
        return
    decoder = codecs.getincrementaldecoder(encoding)(errors="surrogatepass")
    yield _recoded(decoder, first[skip:])
    for chunk in chunks:
        yield _recoded(decoder, chunk)
    yield _recoded(decoder, b"", final=True)


def _recoded(decoder: codecs.IncrementalDecoder, data: bytes, *, final: bool = False) -> bytes:
    # A lone surrogate passes as bytes that are no UTF-8, so that it fails its own element only.
    try:
        return decoder.decode(data, final).encode("utf-8", "surrogatepass")
    except UnicodeError:
        raise MalformedError(
            "bad_encoding",
            "The file starts like UTF-16 or UTF-32, but does not go on like it.",
            cure="Save the export as UTF-8.",
        ) from None


def _at_least(chunks: Iterator[bytes], size: int) -> bytes:
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= size:
            break
    return head


def _encoding_of(head: bytes) -> tuple[str, int]:
    for bom, encoding in _BOMS:
        if head.startswith(bom):
            return encoding, len(bom)
    # Without a mark: JSON starts with ASCII, so the zero bytes tell (RFC 4627, section 3).
    zeros = "".join("0" if byte == 0 else "x" for byte in head[:4])
    guesses = {
        "x000": "utf-32-le",
        "000x": "utf-32-be",
        "x0x0": "utf-16-le",
        "0x0x": "utf-16-be",
    }
    return guesses.get(zeros, "utf-8"), 0


def too_large(limits: Limits) -> TooLargeError:
    """Return the error for more text than ``limits.max_bytes``."""
    return TooLargeError(
        "too_large",
        f"The export holds more than {limits.max_bytes:,} bytes of text.",
        cure="Split the file, or import it from the command line.",
    )


def bomb(limits: Limits) -> TooLargeError:
    """Return the error for what unpacks to more than ``limits.max_ratio`` times its size."""
    return TooLargeError(
        "compression_bomb",
        f"The file unpacks to more than {limits.max_ratio:g} times its size.",
        cure="Unpack it yourself and import the result, if you trust it.",
    )


def _bad_gzip(how: str) -> MalformedError:
    return MalformedError(
        "bad_gzip", f"The gzip file is {how}.", cure="Check it with gzip -t, and export again."
    )
