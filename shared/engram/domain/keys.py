"""API keys: ``engram_live_<id>_<secret>`` in base62, with a checksum at the end."""

import hashlib
import hmac
import re
import zlib
from dataclasses import dataclass

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_LENGTH = 12
_SECRET_LENGTH = 32
_CHECK_LENGTH = 6
_SHAPE = re.compile(
    rf"engram_live_([0-9A-Za-z]{{{_ID_LENGTH}}})_([0-9A-Za-z]{{{_SECRET_LENGTH}}})"
    rf"([0-9A-Za-z]{{{_CHECK_LENGTH}}})",
    re.ASCII,
)
SCOPES = ("memories", "operator")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key in the clear: shown once, never stored.

    Attributes:
        id: public part, names the key in lists and logs.
        secret: private part, 190 bits.
    """

    id: str
    secret: str

    @property
    def text(self) -> str:
        """What a client sends."""
        body = f"engram_live_{self.id}_{self.secret}"
        return body + _checksum(body)

    @property
    def sha256(self) -> bytes:
        """What is stored. The secret is random, so one fast hash is enough."""
        return hashlib.sha256(self.secret.encode()).digest()

    def matches(self, stored_sha256: bytes) -> bool:
        """Compare in constant time."""
        return hmac.compare_digest(self.sha256, stored_sha256)


def make_key(randomness: bytes) -> ApiKey:
    """Return a key from 33 random bytes or more."""
    number = int.from_bytes(randomness, "big")
    text = base62(number, _ID_LENGTH + _SECRET_LENGTH)
    return ApiKey(text[:_ID_LENGTH], text[_ID_LENGTH:])


def parse_key(text: str) -> ApiKey | None:
    """Return the key, or None when it has another shape or a wrong checksum.

    The checksum finds a mistyped or truncated key without asking the database.
    """
    match = _SHAPE.fullmatch(text)
    if match is None:
        return None
    key = ApiKey(match[1], match[2])
    return key if hmac.compare_digest(key.text, text) else None


def _checksum(body: str) -> str:
    return base62(zlib.crc32(body.encode()), _CHECK_LENGTH)


def base62(number: int, length: int) -> str:
    """Return the last ``length`` base62 digits of a number, most significant first."""
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
