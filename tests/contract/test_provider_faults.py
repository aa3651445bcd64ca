"""Every wrong answer of a wire provider ends in the right error class, and in no bad vector."""

import asyncio
import logging
import traceback
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import get_args

import numpy as np
import pytest

from engram.embedding.probe import probe
from engram.embedding.provider import ProviderError
from engram.errors import UsageError
from engram_cli.bench.fake_faults import FaultKind
from engram_cli.bench.fake_provider import FakeProvider
from engram_cli.bench.fake_replies import vector
from tests.support.providers import SECRET, WIRE, open_against

TEXTS = ["first text", "second text", "third text", "fourth text"]
STATUSES = {
    301: "auth", 400: "rejected", 401: "auth", 402: "auth", 403: "auth", 404: "auth",
    408: "timeout", 413: "rejected", 422: "rejected", 429: "rate_limited", 500: "server",
    501: "server", 502: "server", 503: "server", 504: "server", 529: "server", 202: "contract",
}  # fmt: skip
BROKEN = [
    "html", "truncated", "huge", "short_batch", "long_batch", "duplicate_index", "string_index",
    "missing_index", "wrong_dimension", "all_nan", "not_json", "no_data",
]  # fmt: skip
ONE_BAD_ROW = {
    "nan": "not finite", "zero": "zero norm", "overflow": "overflows float16",
    "text_row": "not finite",
}  # fmt: skip
SLOW = {"hang": {}, "drip": {"over_s": 60.0}}
LOST = ["reset", "cut"]


@pytest.fixture
async def fake():
    async with FakeProvider(dimensions=32) as server:
        yield server


@pytest.fixture(params=list(WIRE))
async def provider(request, fake):
    opened = open_against(request.param, fake)
    yield opened
    await opened.close()


async def refusal(provider, texts=TEXTS) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await provider.embed(texts, "document")
    return caught.value


def assert_right(embedded, texts=TEXTS) -> None:
    expected = np.stack([vector(text, 32) for text in texts])
    np.testing.assert_allclose(embedded.vectors, expected, atol=1e-6)


def test_every_fault_of_the_fake_is_gone_through_here():
    covered = {"status", "shuffled", *BROKEN, *ONE_BAD_ROW, *SLOW, *LOST}
    assert covered == set(get_args(FaultKind))


@pytest.mark.parametrize("detail", [True, False], ids=["with words", "without words"])
@pytest.mark.parametrize(("status", "expected"), STATUSES.items())
async def test_a_status_becomes_its_class_and_is_asked_once(
    provider, fake, status, expected, detail
):
    fake.script("status", status=status, detail=detail)
    error = await refusal(provider)
    assert (error.error_class, error.status) == (expected, status)
    assert fake.requests.calls == 1
    assert_right(await provider.embed(TEXTS, "document"))


async def test_a_redirect_is_not_followed_with_text_and_key(provider, fake):
    fake.script("status", status=307, location=f"{fake.url}/embeddings")
    assert (await refusal(provider)).error_class == "auth"
    assert fake.requests.calls == 1


async def test_a_reply_larger_than_it_can_be_is_not_read_to_its_end(provider, fake):
    fake.script("huge")
    assert "larger than it can be" in (await refusal(provider)).detail


async def test_retry_after_in_seconds_is_reported(provider, fake):
    fake.script("status", status=429, retry_after="17", detail=False)
    assert (await refusal(provider)).retry_after_s == 17


async def test_retry_after_as_a_date_is_reported(provider, fake):
    moment = datetime.now(UTC) + timedelta(seconds=90)
    fake.script("status", status=503, retry_after=format_datetime(moment, usegmt=True))
    assert (await refusal(provider)).retry_after_s == pytest.approx(90, abs=5)


@pytest.mark.parametrize("value", ["soon", "-5", "nan", "inf"])
async def test_an_unreadable_retry_after_is_none(provider, fake, value):
    fake.script("status", status=429, retry_after=value)
    assert (await refusal(provider)).retry_after_s is None


@pytest.mark.parametrize("kind", BROKEN)
async def test_a_broken_reply_is_refused_whole(provider, fake, kind):
    fake.script(kind)
    error = await refusal(provider)
    assert (error.error_class, fake.requests.calls) == ("contract", 1)
    assert_right(await provider.embed(TEXTS, "document"))


async def test_vectors_go_where_their_index_says(provider, fake):
    fake.script("shuffled")
    assert_right(await provider.embed(TEXTS, "document"))


@pytest.mark.parametrize(("kind", "reason"), ONE_BAD_ROW.items())
async def test_one_bad_vector_is_named_and_its_neighbours_are_kept(provider, fake, kind, reason):
    fake.script(kind)
    embedded = await provider.embed(TEXTS, "document")
    assert embedded.bad == {0: reason}
    assert np.isnan(embedded.vectors[0]).all()
    expected = np.stack([vector(text, 32) for text in TEXTS[1:]])
    np.testing.assert_allclose(embedded.vectors[1:], expected, atol=1e-6)


@pytest.mark.parametrize("kind", ONE_BAD_ROW)
async def test_a_lone_bad_vector_is_an_error(provider, fake, kind):
    fake.script(kind)
    assert (await refusal(provider, TEXTS[:1])).error_class == "contract"


async def test_a_text_whose_vector_is_always_bad_is_named_wherever_it_stands(provider, fake):
    fake.script("zero", only="third", times=None)
    assert list((await provider.embed(TEXTS, "document")).bad) == [2]
    assert list((await provider.embed(TEXTS[2:], "document")).bad) == [0]
    assert_right(await provider.embed(TEXTS[:2], "document"), TEXTS[:2])


@pytest.mark.parametrize("kind", LOST)
async def test_a_lost_connection_is_a_connection_error_asked_once(provider, fake, kind):
    fake.script(kind)
    assert (await refusal(provider)).error_class == "connection"
    assert fake.requests.calls == 1
    assert_right(await provider.embed(TEXTS, "document"))


async def test_nobody_listening_is_a_connection_error(provider, fake):
    await fake.stop()
    assert (await refusal(provider)).error_class == "connection"


async def test_a_429_without_retry_after_is_a_rate_limit_all_the_same(provider, fake):
    fake.script("status", status=429)
    error = await refusal(provider)
    assert (error.error_class, error.retry_after_s) == ("rate_limited", None)


async def test_a_reply_that_drips_in_but_comes_in_time_is_taken(provider, fake):
    fake.script("drip", over_s=0.5)
    started = asyncio.get_running_loop().time()
    assert_right(await provider.embed(TEXTS, "document"))
    assert asyncio.get_running_loop().time() - started >= 0.5


@pytest.mark.parametrize("name", WIRE)
@pytest.mark.parametrize("kind", SLOW)
async def test_a_server_that_takes_too_long_is_a_timeout_asked_once(fake, name, kind):
    provider = open_against(name, fake, timeout_s=10.0)
    await provider.embed(["import what is imported lazily"], "document")
    await provider.close()
    impatient = open_against(name, fake, timeout_s=0.3)
    fake.script(kind, **SLOW[kind])
    started = asyncio.get_running_loop().time()
    error = await refusal(impatient)
    assert error.error_class == "timeout"
    assert asyncio.get_running_loop().time() - started < 5
    assert fake.requests.calls == 2
    await impatient.close()


async def test_poison_is_rejected_and_its_neighbours_alone_are_not(provider, fake):
    fake.poison = "POISON"
    assert (await refusal(provider, [*TEXTS, "POISON here"])).error_class == "rejected"
    assert_right(await provider.embed(TEXTS, "document"))


@pytest.mark.parametrize("status", [400, 401, 422, 429, 500, 501])
async def test_neither_text_nor_key_is_in_an_error_or_a_log(provider, fake, caplog, status):
    caplog.set_level(logging.DEBUG)
    fake.api_key = "another key" if status == 401 else None
    fake.script("status", status=status)
    error = await refusal(provider, ["the diary of Ada"])
    written = "".join(traceback.format_exception(error)) + caplog.text
    assert "diary of Ada" not in written
    assert SECRET not in written


async def test_one_connection_serves_many_calls(provider, fake):
    for _ in range(10):
        await provider.embed(TEXTS, "document")
    assert fake.requests.connections == 1


async def test_a_cancelled_call_leaves_the_provider_usable(provider, fake):
    await provider.embed(TEXTS, "document")
    fake.script("hang")
    call = asyncio.create_task(provider.embed(TEXTS, "document"))
    while fake.requests.calls < 2:  # noqa: ASYNC110 - the fake has no event to wait on
        await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert_right(await provider.embed(TEXTS, "document"))


async def test_a_closed_provider_refuses(provider):
    await provider.close()
    assert (await refusal(provider)).error_class == "connection"


async def test_the_probe_names_both_lengths_of_a_wrong_model(provider, fake):
    fake.script("wrong_dimension", times=None)
    with pytest.raises(UsageError, match="expects 32 dimensions, but the model makes 33"):
        await probe(provider)


async def test_voyage_is_asked_for_whole_texts_of_the_right_kind(fake):
    provider = open_against("voyage", fake)
    await provider.embed(["where does Ada live?"], "query")
    last = fake.requests.last
    assert (last["input_type"], last["truncation"], last["output_dimension"]) == (
        "query",
        False,
        32,
    )
    await provider.embed(["Ada lives in Kent."], "document")
    assert fake.requests.last["input_type"] == "document"
    assert fake.requests.last_headers["authorization"] == f"Bearer {SECRET}"
    await provider.close()
