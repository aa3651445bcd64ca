"""The local model: equal to its published reference, and alone in its process."""

import asyncio
import math
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from engram.domain.batching import cut
from engram.domain.spaces import parse_embedding
from engram.domain.vectors import normalise
from engram.embedding.minilm import MiniLMProvider
from engram.embedding.minilm_model import WINDOW, MiniLM, erf, gelu, model_directory
from engram.embedding.provider import ProviderError
from tests.support.wait import eventually

SENTENCES = [
    "The weather is lovely today.",
    "It's so sunny outside!",
    "He drove to the stadium.",
    "房租每月五千三百元。",
    "a",
    "",
]


@pytest.fixture(scope="module")
def model():
    return MiniLM(model_directory())


def unit(model: MiniLM, texts: list[str]) -> np.ndarray:
    return normalise(model.embed(texts)[0])


@pytest.fixture
async def provider():
    opened = MiniLMProvider(parse_embedding("minilm"))
    yield opened
    await opened.close()


def by_the_book(text: str) -> np.ndarray:
    """The model again in float64, from the definition: one text, head by head, math.erf."""
    weights = {
        name: array.astype(np.float64)
        for name, array in load_file(str(model_directory() / "model.safetensors")).items()
    }

    def linear(x, name):
        return np.einsum("si,oi->so", x, weights[f"{name}.weight"]) + weights[f"{name}.bias"]

    def norm(x, name):
        spread = np.sqrt(x.var(axis=1, keepdims=True) + 1e-12)
        scaled = (x - x.mean(axis=1, keepdims=True)) / spread
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    tokenizer = Tokenizer.from_file(str(model_directory() / "tokenizer.json"))
    tokenizer.no_padding()
    ids = tokenizer.encode(text).ids
    table = "embeddings.{}_embeddings.weight"
    x = weights[table.format("word")][ids] + weights[table.format("position")][: len(ids)]
    x = norm(x + weights[table.format("token_type")][0], "embeddings.LayerNorm")
    for layer in range(6):
        name = f"encoder.layer.{layer}"
        query, key, value = (
            linear(x, f"{name}.attention.self.{part}") for part in ("query", "key", "value")
        )
        heads = []
        for head in range(12):
            part = slice(head * 32, head * 32 + 32)
            scores = np.exp(query[:, part] @ key[:, part].T / math.sqrt(32))
            heads.append(scores / scores.sum(axis=1, keepdims=True) @ value[:, part])
        attended = linear(np.concatenate(heads, axis=1), f"{name}.attention.output.dense")
        x = norm(x + attended, f"{name}.attention.output.LayerNorm")
        inner = linear(x, f"{name}.intermediate.dense")
        inner = inner * 0.5 * (1 + np.vectorize(math.erf)(inner / math.sqrt(2)))
        x = norm(x + linear(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")
    mean = x.mean(axis=0)
    return mean / np.linalg.norm(mean)


def test_vectors_equal_a_second_formulation_in_float64(model):
    vectors = unit(model, SENTENCES)
    expected = np.stack([by_the_book(text) for text in SENTENCES])
    np.testing.assert_allclose(vectors, expected, atol=1e-6)


def test_vectors_equal_the_published_ones(model):
    # The first numbers sentence-transformers 2 prints for the sentence of the model's card, and
    # the similarities in the quick start of its manual.
    vectors = unit(model, ["This is an example sentence", *SENTENCES[:3]])
    published = [0.0676569, 0.0634959, 0.0487131, 0.0793050, 0.0374481, 0.0026528, 0.0393750]
    np.testing.assert_allclose(vectors[0, :7], published, atol=2e-6)
    similarities = [[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]]
    np.testing.assert_allclose(vectors[1:] @ vectors[1:].T, similarities, atol=6e-5)


def test_a_vector_does_not_depend_on_its_neighbours(model):
    texts = [*SENTENCES, "much longer words to pad the others with " * 12]
    together = unit(model, texts * 3)
    for row, text in enumerate(texts):
        alone = unit(model, [text])
        np.testing.assert_allclose(together[row], alone[0], atol=1e-6)


def test_a_long_text_is_the_weighted_mean_of_its_windows(model):
    words = [f"word{number % 10}" for number in range(400)]
    total, tokens = model.embed([" ".join(words)])
    pieces = Tokenizer.from_file(str(model_directory() / "tokenizer.json"))
    pieces.no_truncation()
    pieces.no_padding()
    ids = pieces.encode(" ".join(words), add_special_tokens=False).ids
    assert tokens == len(ids) > 2 * WINDOW
    windows = [ids[start : start + WINDOW] for start in range(0, len(ids), WINDOW)]
    pooled = np.concatenate([model._forward([window]) for window in windows])
    expected = np.average(pooled, axis=0, weights=[len(window) for window in windows])
    np.testing.assert_allclose(total[0] / tokens, expected, atol=2e-6)


async def test_a_very_long_text_is_the_sum_of_its_parts_and_leaves_turns_between(provider, model):
    long = "the user likes long walks on the beach. " * 250
    answer = await provider.embed(["short", long], "document")
    sums = [model.embed([part])[0][0] for part in cut(long, 4_000)]
    assert len(sums) == 3
    expected = normalise(np.sum(sums, axis=0)[None, :])
    np.testing.assert_allclose(answer.vectors[1], expected[0], atol=1e-6)
    assert not answer.bad


def test_erf_and_gelu_match_their_definitions():
    x = np.linspace(-6, 6, 4001, dtype=np.float32)
    expected = np.array([math.erf(value) for value in x])
    np.testing.assert_allclose(erf(x), expected, atol=4e-7)
    phi = np.array([0.5 * (1 + math.erf(value / math.sqrt(2))) for value in x])
    np.testing.assert_allclose(gelu(x), x * phi, atol=2e-6)


async def test_a_killed_model_fails_the_call_in_flight_and_starts_again(provider):
    await provider.warm_up()
    first = provider.worker_pid
    call = asyncio.create_task(provider.embed(["long text " * 3000] * 4, "document"))
    await eventually(lambda: provider._turns._held)
    os.kill(first, signal.SIGKILL)
    with pytest.raises(ProviderError) as caught:
        await call
    assert caught.value.error_class == "server"
    assert (await provider.embed(["well again"], "document")).vectors.shape == (1, 384)
    assert provider.worker_pid != first


async def test_a_model_that_died_while_idle_is_replaced_without_an_error(provider):
    await provider.warm_up()
    os.kill(provider.worker_pid, signal.SIGKILL)
    await eventually(lambda: provider._process._process.returncode is not None)
    assert (await provider.embed(["well again"], "document")).vectors.shape == (1, 384)


async def test_a_query_goes_before_documents_that_wait(provider):
    await provider.warm_up()
    finished = []
    documents = asyncio.create_task(provider.embed(["some words to embed"] * 320, "document"))
    documents.add_done_callback(lambda _: finished.append("documents"))
    await eventually(lambda: provider._turns._held)
    await provider.embed(["a question"], "query")
    finished.append("query")
    await documents
    assert finished == ["query", "documents"]


async def test_the_loop_turns_while_the_model_works(provider):
    await provider.warm_up()
    work = asyncio.create_task(provider.embed(["some words to embed"] * 160, "document"))
    turns = 0
    while not work.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert turns > 50


async def test_a_caller_who_gives_up_costs_nobody_the_model(provider):
    await provider.warm_up()
    pid = provider.worker_pid
    call = asyncio.create_task(provider.embed(["some words"] * 16, "document"))
    await eventually(lambda: provider._turns._held)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    right = (await provider.embed(["another text"], "query")).vectors
    np.testing.assert_allclose((await provider.embed(["another text"], "query")).vectors, right)
    assert provider.worker_pid == pid


async def test_closing_in_the_middle_of_work_ends_the_process(provider):
    await provider.warm_up()
    pid = provider.worker_pid
    work = asyncio.create_task(provider.embed(["long text " * 3000] * 4, "document"))
    await eventually(lambda: provider._turns._held)
    await provider.close()
    with pytest.raises(ProviderError):
        await work
    await eventually(lambda: _ended(pid))


async def test_the_model_dies_with_its_parent(tmp_path):
    script = (
        "import asyncio\n"
        "from engram.domain.spaces import parse_embedding\n"
        "from engram.embedding.minilm import MiniLMProvider\n"
        "async def main():\n"
        "    provider = MiniLMProvider(parse_embedding('minilm'))\n"
        "    await provider.warm_up()\n"
        "    print(provider.worker_pid, flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE
    )
    child = int(await parent.stdout.readline())
    assert not _ended(child)
    parent.kill()
    await parent.wait()
    await eventually(lambda: _ended(child))


async def test_the_model_is_given_none_of_our_secrets(provider, monkeypatch):
    monkeypatch.setenv("VOYAGE_API_KEY", "not for the model")
    monkeypatch.setenv("ENGRAM_DATABASE_URL", "nor this")
    await provider.warm_up()
    environment = _environment(provider.worker_pid)
    assert b"not for the model" not in environment
    assert b"nor this" not in environment
    assert b"OPENBLAS_NUM_THREADS=1" in environment


def _environment(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def _ended(pid: int) -> bool:
    """Gone, or a zombie nobody in this container reaps."""
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
