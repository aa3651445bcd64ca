"""The files of an archive, each readable as a stream of its own; unsafe archives are refused."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engram.errors import MalformedError, TooLargeError
from engram.importers.source import Limits, Source, Stream

MAX_NAME_BYTES = 512
_ARCHIVE_ENDINGS = (".zip", ".tar", ".tgz", ".tar.gz", ".jar", ".7z", ".rar", ".tar.bz2", ".tar.xz")
# What operating systems add to archives and folders on their own.
_LITTER = ("__MACOSX/", ".DS_Store", "Thumbs.db", "desktop.ini")


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an archive or a folder.

    Attributes:
        name: its path inside, with slashes, checked: relative and without ``..``.
        size_bytes: its size once the archive's own compression is undone.
        open: gives the bytes from their beginning, as a stream that can seek to it again.
        limits: how much of it is read.
    """

    name: str
    size_bytes: int
    open: Callable[[], Stream]
    limits: Limits

    @property
    def base(self) -> str:
        """The last part of the name."""
        return self.name.rsplit("/", 1)[-1]

    def source(self) -> Source:
        """Return its text, readable from the beginning as often as needed.

        Raises:
            MalformedError: it is an archive itself.
        """
        source = Source(self.open(), self.limits)
        if is_archive(source):
            raise nested(self.name)
        return source


def open_members(source: Source) -> tuple[Member, ...] | None:
    """Return the files of a zip or tar archive (gzipped or not), None when it is no archive.

    Nothing is written anywhere but a gzipped tar, to a temporary file. Names are checked all the
    same: an archive with one that leads out of itself is no export, and is refused as a whole.

    Raises:
        MalformedError: a damaged archive; a name that leads out of it or comes twice; an archive
            in the archive; an encrypted entry, or one that is no file.
        TooLargeError: more entries or bytes than the limits allow, or a decompression bomb.
    """
    # Here, because both build on the names and errors above.
    from engram.importers.tarred import is_tar, tar_members
    from engram.importers.zipped import is_zip, zip_members

    if is_zip(source):
        return checked(zip_members(source), source.limits)
    if is_tar(source):
        return checked(tar_members(source), source.limits)
    return None


def is_archive(source: Source) -> bool:
    """Say whether a text is a zip or tar archive, by its first bytes."""
    from engram.importers.tarred import is_tar
    from engram.importers.zipped import is_zip

    return is_zip(source) or is_tar(source)


def checked(members: Sequence[Member], limits: Limits) -> tuple[Member, ...]:
    """Return the members without an operating system's own, sorted by name.

    Raises:
        MalformedError: a name comes twice, leads out, or is that of an archive.
        TooLargeError: there are too many, or they are too large together.
    """
    if len(members) > limits.max_members:
        raise too_many_members(limits)
    kept: dict[str, Member] = {}
    for member in members:
        if any(part in member.name for part in _LITTER):
            continue
        refuse_unsafe(member.name)
        if member.name in kept:
            raise MalformedError(
                "unsafe_archive",
                f"The archive holds {shown(member.name)} twice; which one counts is not said.",
                cure="Pack it again, each file once.",
            )
        kept[member.name] = member
    if sum(member.size_bytes for member in kept.values()) > limits.max_bytes:
        raise TooLargeError(
            "too_large",
            f"The archive holds more than {limits.max_bytes:,} bytes.",
            cure="Import its files one by one.",
        )
    return tuple(kept[name] for name in sorted(kept))


def refuse_unsafe(name: str) -> None:
    """Check the path of an archive's entry.

    Raises:
        MalformedError: it is absolute, leads out of the archive, holds a control character, is
            over-long, or is an archive's.
    """
    parts = name.split("/")
    if (
        not name
        or name[:1] == "/"
        or name[1:2] == ":"
        or "\\" in name
        or ".." in parts
        or any(ord(c) < 32 or ord(c) == 127 for c in name)
        or len(name.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES
    ):
        raise MalformedError(
            "unsafe_archive",
            f"The archive has an entry whose name leads out of it: {shown(name)}.",
            cure="Do not unpack it either; ask for it where it came from.",
        )
    if name.lower().endswith(_ARCHIVE_ENDINGS):
        raise nested(name)


def shown(name: str) -> str:
    """Return an entry's name as messages show it: escaped and short."""
    return ascii(name[:100])


def nested(name: str) -> MalformedError:
    """Return the error for an archive inside an archive."""
    return MalformedError(
        "nested_archive",
        f"The archive holds another one: {shown(name)}.",
        cure="Unpack the outer one and import what is inside.",
    )


def bad_archive(how: str) -> MalformedError:
    """Return the error for an archive that cannot be read; ``how`` follows 'The archive'."""
    return MalformedError(
        "bad_archive",
        f"The archive {how}.",
        cure="Check it with unzip -t or tar -t, and export again.",
    )


def too_many_members(limits: Limits) -> TooLargeError:
    """Return the error for more entries than ``limits.max_members``."""
    return TooLargeError(
        "too_many_members",
        f"The archive holds more than {limits.max_members:,} entries.",
        cure="Import its files one by one.",
    )
