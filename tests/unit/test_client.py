"""The HTTP client: transport, retries and errors, for the blocking and the awaited one alike."""

import asyncio
import inspect
import json
import socket

import pytest

from engram.backoff import Backoff
from engram.client import AsyncClient, Client
from engram.errors import (
    BusyError,
    ConflictError,
    EngramError,
    Fault,
    ForbiddenError,
    InvalidError,
    MalformedError,
    NotFoundError,
    PreconditionError,
    TooLargeError,
    UnauthenticatedError,
    UnavailableError,
    UsageError,
)
from tests.unit.http_stub import DROP, problem, serving

QUICK = Backoff(attempts=4, base_s=0.001, cap_s=0.002)
RECORD = {"id": "m1", "content": "Likes tea", "version": 1}
REPORT = {"format": "native", "received": 1, "imported": 1, "failed": 0, "errors": []}


@pytest.fixture
def stub():
    with serving() as running:
        yield running


@pytest.fixture(params=["blocking", "awaited"])
async def call(request, stub):
    """Calls a client method by name and returns its result, with iterators made lists."""
    blocking = Client(stub.url, "secret", 5, backoff=QUICK)
    awaited = AsyncClient(stub.url, "secret", 5, backoff=QUICK)

    def block(name, args, options):
        result = getattr(blocking, name)(*args, **options)
        return list(result) if inspect.isgenerator(result) else result

    async def ask(name, *args, **options):
        if request.param == "blocking":
            return await asyncio.to_thread(block, name, args, options)
        result = getattr(awaited, name)(*args, **options)
        return [one async for one in result] if inspect.isasyncgen(result) else await result

    yield ask
    blocking.close()
    await awaited.close()


async def test_a_memory_is_added_with_the_key_and_its_fields(call, stub):
    stub.script((201, RECORD))
    assert await call("add", "Likes tea", user_id="alice", wait="embedded") == RECORD
    [asked] = stub.asked
    assert (asked.method, asked.path) == ("POST", "/v1/memories?wait=embedded")
    assert asked.json == {"content": "Likes tea", "user_id": "alice"}
    assert asked.headers["authorization"] == "Bearer secret"
    assert asked.headers["content-type"] == "application/json"


@pytest.mark.parametrize("first", [DROP, (502, {}), (503, {}), (504, {}), problem(429, "busy")])
async def test_a_retried_post_carries_the_same_idempotency_key_and_body(call, stub, first):
    stub.script(first, first, (201, RECORD))
    assert await call("add", "Likes tea") == RECORD
    assert len(stub.asked) == 3
    assert len({asked.headers["idempotency-key"] for asked in stub.asked}) == 1
    assert len({asked.body for asked in stub.asked}) == 1


async def test_two_posts_carry_two_idempotency_keys(call, stub):
    stub.script((201, RECORD))
    await call("add", "Likes tea")
    await call("add", "Likes tea")
    assert len({asked.headers["idempotency-key"] for asked in stub.asked}) == 2


async def test_a_callers_own_idempotency_key_is_sent(call, stub):
    stub.script((201, RECORD))
    await call("add", "Likes tea", idempotency_key="mine")
    assert stub.asked[0].headers["idempotency-key"] == "mine"


async def test_retries_are_bounded(call, stub):
    stub.script((503, {}))
    with pytest.raises(UnavailableError):
        await call("get", "m1")
    assert len(stub.asked) == QUICK.attempts


async def test_a_server_that_asks_for_too_long_a_wait_is_not_waited_for(call, stub):
    status, body, headers = problem(429, "quota")
    stub.script((status, body, {**headers, "Retry-After": "3600"}))
    with pytest.raises(BusyError) as caught:
        await call("add", "Likes tea")
    assert caught.value.retry_after_s == 3600
    assert len(stub.asked) == 1


async def test_a_post_still_in_flight_is_asked_for_again_until_its_answer_is_there(call, stub):
    stub.script(DROP, problem(409, "idempotency_in_flight"), (201, RECORD))
    assert await call("add", "Likes tea") == RECORD


async def test_a_conflict_at_the_first_try_is_an_error_at_once(call, stub):
    stub.script(problem(409, "conflict"))
    with pytest.raises(ConflictError):
        await call("add", "Likes tea")
    assert len(stub.asked) == 1


@pytest.mark.parametrize(
    ("status", "error_class"),
    [
        (400, MalformedError),
        (401, UnauthenticatedError),
        (403, ForbiddenError),
        (404, NotFoundError),
        (409, ConflictError),
        (412, PreconditionError),
        (413, TooLargeError),
        (422, InvalidError),
        (429, BusyError),
        (500, EngramError),
        (503, UnavailableError),
    ],
)
async def test_a_problem_becomes_the_error_class_of_its_status(call, stub, status, error_class):
    fault = {"pointer": "/content", "code": "empty", "detail": "is empty"}
    stub.script(problem(status, "the_code", errors=[fault]))
    with pytest.raises(EngramError) as caught:
        await call("get", "m1")
    error = caught.value
    assert type(error) is error_class
    assert (error.code, error.detail) == ("the_code", "D.")
    assert error.faults == (Fault("/content", "empty", "is empty"),)


@pytest.mark.parametrize(
    "answer",
    [
        (500, b"<html>secret page</html>", {"Content-Type": "text/html"}),
        (404, b"{", {"Content-Type": "application/json"}),
        (404, [1], {"Content-Type": "application/json"}),
        (422, {"code": 7, "detail": None, "errors": 3}, {"Content-Type": "application/json"}),
        (422, {"errors": [1, {}]}, {"Content-Type": "application/json"}),
        (302, b"", {"Location": "/elsewhere"}),
    ],
)
async def test_a_failure_that_is_no_problem_document_still_is_an_engram_error(call, stub, answer):
    stub.script(answer)
    with pytest.raises(EngramError) as caught:
        await call("get", "m1")
    assert caught.value.code == f"http_{answer[0]}"
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("answer", [(200, b"<html>"), (200, [1]), (200, b"")])
async def test_a_good_status_with_another_programs_body_is_an_engram_error(call, stub, answer):
    stub.script(answer)
    with pytest.raises(UnavailableError) as caught:
        await call("workspace")
    assert caught.value.code == "bad_answer"


async def test_a_delete_whose_answer_was_lost_succeeds_when_the_memory_is_gone(call, stub):
    stub.script(DROP, problem(404, "not_found"))
    assert await call("delete", "m1") is None


async def test_a_delete_of_an_unknown_memory_is_not_found(call, stub):
    stub.script(problem(404, "not_found"))
    with pytest.raises(NotFoundError):
        await call("delete", "m1")


async def test_changes_and_deletes_name_the_version_they_expect(call, stub):
    stub.script((200, RECORD), (204, b""))
    await call("update", "m1", if_match=3, content="x", expires_at=None)
    await call("delete", "m1", if_match=4)
    update, delete = stub.asked
    assert (update.method, update.headers["if-match"]) == ("PATCH", '"3"')
    assert update.json == {"content": "x", "expires_at": None}
    assert (delete.method, delete.headers["if-match"]) == ("DELETE", '"4"')


async def test_a_list_follows_its_cursors_to_the_end(call, stub):
    pages = [{"items": [{"id": "a"}], "next_cursor": "c&1"}, {"items": [], "next_cursor": "c2"}]
    stub.script(
        (200, pages[0]), (200, pages[1]), (200, {"items": [{"id": "b"}], "next_cursor": None})
    )
    assert await call("list", user_id="a b", page_size=2) == [{"id": "a"}, {"id": "b"}]
    assert [asked.path for asked in stub.asked] == [
        "/v1/memories?user_id=a+b&limit=2",
        "/v1/memories?user_id=a+b&cursor=c%261&limit=2",
        "/v1/memories?user_id=a+b&cursor=c2&limit=2",
    ]


async def test_an_id_is_never_read_as_another_path(call, stub):
    stub.script((200, RECORD), (200, {"items": [], "next_cursor": None}))
    await call("get", "a/../b?c#d")
    await call("history", "m/1")
    assert stub.asked[0].path == "/v1/memories/a%2F..%2Fb%3Fc%23d"
    assert stub.asked[1].path == "/v1/memories/m%2F1/history?limit=100"
    with pytest.raises(InvalidError):
        await call("get", "")


async def test_search_and_context_send_their_options(call, stub):
    stub.script((200, {"results": []}), (200, {"context": ""}))
    await call("search", "tea", namespace="user:a", filters={"AND": []}, rank="blended")
    await call("context", "tea", max_tokens=5, format="xml")
    assert [asked.path for asked in stub.asked] == ["/v1/memories/search", "/v1/memories/context"]
    assert stub.asked[0].json == {
        "query": "tea",
        "namespace": "user:a",
        "filters": {"AND": []},
        "rank": "blended",
    }
    assert stub.asked[1].json == {"query": "tea", "max_tokens": 5, "format": "xml"}


async def test_an_import_is_cut_into_batches_and_its_reports_summed(call, stub):
    second = {
        **REPORT,
        "received": 2,
        "imported": 1,
        "failed": 1,
        "by_namespace": {"global": 1},
        "warnings": ["w"],
        "errors": [
            {"index": 1, "line": 2, "external_id": "x", "code": "empty", "detail": "is empty"}
        ],
    }
    first = {**REPORT, "received": 500, "imported": 500, "by_namespace": {"global": 500}}
    stub.script((200, first), (200, second))
    items = [{"content": f"memory {n}"} for n in range(502)]
    report = await call("import_memories", items, strategy="merge", dry_run=True)
    assert [asked.path for asked in stub.asked] == [
        "/v1/memories/import?format=native&strategy=merge&dry_run=true"
    ] * 2
    assert stub.asked[0].headers["content-type"] == "application/x-ndjson"
    sent = [json.loads(line) for asked in stub.asked for line in asked.body.splitlines()]
    assert sent == items
    assert (report["received"], report["imported"], report["failed"]) == (502, 501, 1)
    assert report["by_namespace"] == {"global": 501}
    assert report["warnings"] == ["w"]
    assert report["errors"] == [
        {"index": 501, "line": None, "external_id": "x", "code": "empty", "detail": "is empty"}
    ]


async def test_a_replacement_says_how_it_is_undone(call, stub):
    stub.script((200, {**REPORT, "archived": 3, "import_id": "0199"}))
    report = await call("import_memories", [{"content": "new"}], strategy="replace")
    assert (report["archived"], report["import_id"]) == (3, "0199")
    assert "import_id" not in await call("import_memories", [])


JOB = {
    **{name: REPORT[name] for name in ("format", "received", "imported", "failed")},
    "id": "j1",
    "error": None,
    "archived": 3,
    "warnings": [],
    "by_namespace": {},
}


async def test_a_replacement_behind_other_imports_is_waited_for(call, stub, monkeypatch):
    monkeypatch.setattr("engram.client.synchronous.LOOK_S", 0.01)
    monkeypatch.setattr("engram.client.asynchronous.LOOK_S", 0.01)
    # Ends of lines to text, not to JSON.
    name = "a\u2028b\x85c"
    error = {"index": 1, "line": 2, "external_id": name, "code": "empty", "detail": "is empty"}
    done = {**JOB, "state": "done", "received": 2, "failed": 1}
    stub.script(
        (202, {**JOB, "state": "queued", "imported": 0}),
        (200, {**JOB, "state": "running"}),
        (200, done),
        (200, json.dumps(error, ensure_ascii=False).encode() + b"\n"),
    )
    items = [{"content": "new"}, {"content": ""}]
    report = await call("import_memories", items, strategy="replace")
    assert (report["imported"], report["archived"], report["import_id"]) == (1, 3, "j1")
    assert [(one["index"], one["external_id"]) for one in report["errors"]] == [(1, name)]
    asked = [(one.method, one.path.partition("?")[0]) for one in stub.asked]
    assert asked == [
        ("POST", "/v1/memories/import"),
        ("GET", "/v1/imports/j1"),
        ("GET", "/v1/imports/j1"),
        ("GET", "/v1/imports/j1/errors"),
    ]


async def test_a_replacement_that_fails_or_is_cancelled_later_says_so(call, stub):
    problem = {"code": "empty_replacement", "detail": "It holds nothing.", "cure": "Look."}
    stub.script((202, {**JOB, "state": "failed", "error": problem}))
    with pytest.raises(InvalidError, match="It holds nothing") as caught:
        await call("import_memories", [{"content": "new"}], strategy="replace")
    assert (caught.value.code, caught.value.cure) == ("empty_replacement", "Look.")
    stub.script((202, {**JOB, "state": "cancelled"}))
    with pytest.raises(ConflictError, match="cancelled"):
        await call("import_memories", [{"content": "new"}], strategy="replace")


async def test_a_replacement_that_needs_two_requests_is_refused_before_the_first(call, stub):
    items = [{"content": f"memory {n}"} for n in range(501)]
    with pytest.raises(TooLargeError, match="would replace what the first one brought"):
        await call("import_memories", items, strategy="replace")
    assert stub.asked == []


async def test_an_item_that_is_no_json_fails_alone(call, stub):
    stub.script((200, REPORT))
    items = [{"content": float("nan"), "external_id": "x"}, {"content": "fine"}, 7]
    report = await call("import_memories", items)
    assert (report["received"], report["imported"], report["failed"]) == (3, 1, 2)
    assert [(e["index"], e["code"], e["external_id"]) for e in report["errors"]] == [
        (0, "not_json", "x"),
        (2, "not_an_object", None),
    ]


async def test_an_empty_import_asks_nothing(call, stub):
    assert (await call("import_memories", []))["received"] == 0
    assert stub.asked == []


async def test_any_other_route_can_be_called(call, stub):
    stub.script((200, {"id": "k"}), (204, b""))
    assert await call("request", "POST", "/v1/keys", body={"name": "n"}) == {"id": "k"}
    assert await call("request", "DELETE", "/v1/keys/k", force=True) is None
    assert stub.asked[0].headers["idempotency-key"]
    assert stub.asked[1].path == "/v1/keys/k?force=true"


@pytest.fixture
def dead_url():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{unused.getsockname()[1]}"


async def test_a_server_that_is_not_there_is_unavailable(dead_url):
    with Client(dead_url, "k", 1, backoff=QUICK) as client, pytest.raises(UnavailableError) as one:
        client.workspace()
    async with AsyncClient(dead_url, "k", 1, backoff=QUICK) as client:
        with pytest.raises(UnavailableError) as other:
            await client.workspace()
    assert one.value.code == other.value.code == "unreachable"


@pytest.mark.parametrize(
    "url", ["localhost:8080", "ftp://x", "//x", "http://", "http://[x", "http://h:99999"]
)
def test_what_is_no_http_address_is_wrong_usage(url):
    with pytest.raises(UsageError):
        Client(url, "k")


@pytest.mark.parametrize("key", ["", " ", "k\nX: y", "schlüssel"])
def test_a_key_that_no_header_can_carry_is_refused(key, monkeypatch):
    monkeypatch.delenv("ENGRAM_API_KEY", raising=False)
    with pytest.raises(UnauthenticatedError):
        Client("http://127.0.0.1:1", key)


def test_address_and_key_come_from_the_environment(stub, monkeypatch):
    monkeypatch.setenv("ENGRAM_URL", stub.url + "/prefix/")
    monkeypatch.setenv("ENGRAM_API_KEY", "from-env")
    stub.script((200, RECORD))
    with Client() as client:
        client.get("m1")
    assert stub.asked[0].path == "/prefix/v1/memories/m1"
    assert stub.asked[0].headers["authorization"] == "Bearer from-env"


def test_both_clients_have_the_same_methods_with_the_same_arguments():
    def surface(cls):
        methods = inspect.getmembers(cls, inspect.isfunction)
        return {
            name: [(p.name, p.kind, p.default, p.annotation) for p in signature.parameters.values()]
            for name, signature in ((n, inspect.signature(f)) for n, f in methods)
            if not name.startswith("_")
        }

    blocking, awaited = surface(Client), surface(AsyncClient)
    for name in ("import_batch", "import_file", "lines"):
        assert awaited.pop(name)  # concurrency and streams are the awaited one's point
    assert blocking == awaited


async def test_lines_are_those_of_json_however_they_are_cut(stub):
    rows = [{"name": "a\u2028b\x85c", "n": n, "text": "x" * 40_000} for n in range(5)]
    body = b"\n".join(json.dumps(row, ensure_ascii=False).encode() for row in rows)
    async with AsyncClient(stub.url, "secret", 5, backoff=QUICK) as client:
        for end in (b"", b"\n"):
            stub.script((200, body + end))
            assert [row async for row in client.lines("/v1/imports/j1/errors")] == rows
        stub.script((200, b'{"n": 1}\n<html>'))
        with pytest.raises(UnavailableError, match="not what an engram server gives"):
            [row async for row in client.lines("/v1/imports/j1/errors")]
