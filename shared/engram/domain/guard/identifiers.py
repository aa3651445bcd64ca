"""Identifiers: phone numbers, versions, codes and addresses compared by what they name."""

import re
from collections.abc import Sequence

from engram.domain.guard.tokens import Raw
from engram.domain.guard.values import Value

_VERSION = re.compile(r"v\.?(\d+(?:\.\d+)*(?:[.-][a-z]+\.?\d*)?)", re.IGNORECASE)
_CODE = re.compile(r"([A-Za-z]{1,5})-?(\d+)([A-Za-z]?)")


def identifier_key(text: str) -> str:
    """Case is kept where an identifier mixes it and folded where it is of one case."""
    single = text.islower() or text.isupper() or not re.search(r"\d", text)
    return text.lower() if single else text


def code(text: str) -> Value:
    """A code; "KX-481", "KX481" and "kx481" are one."""
    match = _CODE.fullmatch(text)
    plain = "".join(match.groups()) if match else text
    return Value(f"id:{identifier_key(plain)}", "identifier", 1)


def version(tokens: Sequence[Raw], i: int) -> Value | None:
    """v2, V2, version 2, ver. 2; 1.2 and 1.20 stay two versions."""
    token = tokens[i]
    if match := _VERSION.fullmatch(token.text):
        return Value(f"ver:{match.group(1).lower()}", "identifier", 1)
    if token.low not in {"version", "ver", "v"}:
        return None
    dot = int(i + 1 < len(tokens) and tokens[i + 1].text == ".")
    if i + 1 + dot < len(tokens):
        after = tokens[i + 1 + dot].text
        bare = re.fullmatch(r"v?(\d+(?:\.\d+)*)", after)
        if bare:
            return Value(f"ver:{bare.group(1)}", "identifier", 2 + dot)
    return None


def named_code(tokens: Sequence[Raw], i: int) -> Value | None:
    """Capital letters before a number are one code: "KX 481"."""
    token = tokens[i]
    if token.sort != "word" or not token.text.isupper() or not 1 < len(token.text) <= 4:
        return None
    if i + 1 < len(tokens) and tokens[i + 1].text.isdigit():
        return Value(f"id:{token.low}{tokens[i + 1].text}", "identifier", 2)
    return None


def _address(url: str) -> str:
    """A URL without https:// and a closing slash; the host in lower case, the rest as written."""
    plain = re.sub(r"^https://", "", url, flags=re.IGNORECASE).rstrip("/")
    scheme, mark, rest = plain.rpartition("://")
    host, slash, path = rest.partition("/")
    return scheme.lower() + mark + host.lower() + slash + path


def identifier(tokens: Sequence[Raw], i: int) -> Value | None:
    """URLs, mail addresses, paths, phone numbers, account numbers, codes."""
    token = tokens[i]
    if token.sort in {"phone", "mac", "uuid", "iban"}:
        return Value(_numbered(token), "identifier", 1)
    if token.sort == "code":
        return code(token.text)
    written = {"email": token.low, "url": _address(token.text), "path": token.text}
    return Value(f"id:{written[token.sort]}", "identifier", 1) if token.sort in written else None


def _numbered(token: Raw) -> str:
    """What is grouped by spaces, dots or dashes that say nothing."""
    if token.sort == "phone":
        plain = re.sub(r"[^\d+]", "", token.text)
        return "tel:" + re.sub(r"^00", "+", plain)
    if token.sort == "iban":
        return "id:" + token.text.replace(" ", "").lower()
    return f"id:{token.low.replace('-', ':')}"
