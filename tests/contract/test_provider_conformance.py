"""One suite that every embedding provider passes."""

import asyncio

import numpy as np
import pytest

from engram.embedding.probe import probe
from engram.embedding.provider import Provider, ProviderError
from tests.support.providers import opened

PROVIDERS = ["voyage", "openai", "minilm", "hashing@64", "null@64"]
UNICODE = [
    "καλημέρα",
    "房租每月五千三百元。",
    "🙂🙃",
    "naïve café",
    "a\u0301",
    "\u202eright",
    "x\ty\n",
]


@pytest.fixture(params=PROVIDERS)
async def provider(request):
    async with opened(request.param) as opening:
        yield opening


def assert_sound(vectors: np.ndarray, count: int, provider: Provider) -> None:
    assert vectors.shape == (count, provider.spec.dimensions)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


async def test_vectors_are_unit_float32_rows_in_the_order_of_the_texts(provider):
    texts = ["one apple", "two pears and more", "three"]
    together = await provider.embed(texts, "document")
    assert_sound(together.vectors, 3, provider)
    assert not together.bad
    for row, text in enumerate(texts):
        alone = await provider.embed([text], "document")
        np.testing.assert_allclose(alone.vectors[0], together.vectors[row], atol=1e-6)


async def test_different_texts_get_different_vectors(provider):
    texts = [f"memory number {number}" for number in range(20)]
    vectors = (await provider.embed(texts, "document")).vectors
    assert len(np.unique(vectors, axis=0)) == 20


async def test_the_same_text_gets_the_same_vector_again(provider):
    first = (await provider.embed(["again and again"], "document")).vectors
    second = (await provider.embed(["again and again"], "document")).vectors
    np.testing.assert_allclose(first, second, atol=1e-6)


async def test_no_texts_give_no_rows_and_cost_nothing(provider):
    embedded = await provider.embed([], "document")
    assert embedded.vectors.shape == (0, provider.spec.dimensions)
    assert embedded.total_tokens == 0


async def test_any_unicode_text_gets_a_vector(provider):
    embedded = await provider.embed(UNICODE, "document")
    assert_sound(embedded.vectors, len(UNICODE), provider)


@pytest.mark.parametrize("kind", ["document", "query"])
async def test_one_text_and_the_most_allowed_both_work(provider, kind):
    most = min(provider.limits.max_inputs, 2048)
    for count in (1, most):
        texts = [f"text {number}" for number in range(count)]
        assert_sound((await provider.embed(texts, kind)).vectors, count, provider)


async def test_concurrent_calls_each_get_their_own_vectors(provider):
    texts = [[f"call {call} text {number}" for number in range(4)] for call in range(12)]
    kinds = ["query" if call % 3 == 0 else "document" for call in range(12)]
    answers = await asyncio.gather(*map(provider.embed, texts, kinds))
    for mine, answer in zip(texts, answers, strict=True):
        alone = await provider.embed(mine[:1], "document")
        np.testing.assert_allclose(answer.vectors[0], alone.vectors[0], atol=1e-6)


async def test_a_long_text_is_embedded_whole_and_its_end_counts(provider):
    start = "the user likes long walks on the beach. " * 60
    texts = [start + "The dentist is on Tuesday.", start + "The car is in the garage."]
    vectors = (await provider.embed(texts, "document")).vectors
    assert_sound(vectors, 2, provider)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-4


async def test_a_lone_surrogate_is_embedded_or_refused_never_a_crash(provider):
    call = asyncio.create_task(provider.embed(["half a \ud83d pair"], "document"))
    await asyncio.wait([call])
    error = call.exception()
    if error is None:
        assert_sound(call.result().vectors, 1, provider)
    else:
        assert isinstance(error, ProviderError)
        assert error.error_class == "rejected"


async def test_token_counts_are_told_or_none(provider):
    tokens = (await provider.embed(["one two three"], "document")).total_tokens
    assert tokens is None or tokens > 0


async def test_the_probe_agrees_with_the_space(provider):
    seen = await probe(provider)
    assert seen.dimensions == provider.spec.dimensions
    assert seen.deterministic
    assert seen.normalised


async def test_closing_twice_and_closing_unused_do_nothing(provider):
    await provider.close()
    await provider.close()


async def test_closing_after_use_twice_does_nothing(provider):
    await provider.embed(["used"], "document")
    await provider.close()
    await provider.close()
