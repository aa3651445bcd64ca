"""The parts of the dual writer: journal, answers, phases, bells, and what a write may wait for."""

import contextlib
import threading
import time
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.dualwrite import DualWriter, Mem0Store, ZepStore, flows, from_environment, from_file
from engram.dualwrite.answers import Told, means_gone, scope_of, told_by_add, written_since
from engram.dualwrite.bells import Bell, Bells
from engram.dualwrite.calls import write_of
from engram.dualwrite.core import Options
from engram.dualwrite.journal import Journal, decode, encode
from engram.dualwrite.mirror import Mirror
from engram.dualwrite.phases import PHASES, CurrentPhase, as_phase, mirrors
from engram.dualwrite.shadow import overlap
from engram.dualwrite.stats import Ledger
from engram.errors import BusyError, InvalidError, UnavailableError, UsageError
from tests.support.mem0_fake import Memory, MissingError
from tests.support.wait import eventually

records = st.lists(
    st.fixed_dictionaries({"n": st.integers(1, 9), "ids": st.lists(st.text(max_size=5))}),
    max_size=8,
)


@given(written=records, cut=st.integers(0, 400))
def test_a_torn_journal_gives_every_record_before_the_tear(written, cut):
    encoded = [encode(record) for record in written]
    data = b"".join(encoded)[:cut]
    whole, size_bytes = decode(data)
    assert whole == written[: len(whole)]
    assert size_bytes == sum(map(len, encoded[: len(whole)]))
    assert len(whole) == len(written) or size_bytes + len(encoded[len(whole)]) > cut


@given(written=records.filter(bool), at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_damaged_record_is_never_taken_for_a_whole_one(written, at, bit):
    data = bytearray(b"".join(encode(record) for record in written))
    data[at % len(data)] ^= 1 << bit
    whole, _ = decode(bytes(data))
    assert whole == written[: len(whole)]
    assert len(whole) < len(written)


def opened(folder, **options):
    return Journal(folder, **{"max_bytes": 1 << 20, "segment_bytes": 200, **options})


def test_a_journal_forgets_what_is_closed_and_keeps_the_rest_over_a_restart(tmp_path):
    journal = opened(tmp_path)
    journal.replay()
    for number in range(1, 21):
        journal.append([{"n": number, "ids": [f"m{number}"]}])
    journal.close_numbers([n for n in range(1, 21) if n != 7])
    journal.close()
    again = opened(tmp_path)
    assert [record["n"] for record in again.replay()] == [7]
    assert again.damaged_bytes == 0
    again.close_numbers([7])
    again.append([{"n": 21, "ids": []}])
    again.close_numbers([21])
    again.close()
    assert len(list(tmp_path.glob("*.log"))) <= 1


def test_a_full_journal_refuses_and_has_room_again_when_work_is_done(tmp_path):
    journal = opened(tmp_path, max_bytes=4096)
    journal.replay()
    numbers = []

    def fill():
        for number in range(1, 1000):
            journal.append([{"n": number, "ids": ["x" * 40]}])
            numbers.append(number)

    with pytest.raises(BusyError) as refused:
        fill()
    assert refused.value.code == "journal_full"
    assert len(numbers) > 20
    journal.close_numbers(numbers)
    journal.append([{"n": 1000, "ids": []}])
    journal.close()


def test_a_journal_belongs_to_one_writer_until_that_ends(tmp_path):
    journal = opened(tmp_path)
    with pytest.raises(UsageError):
        opened(tmp_path)
    journal.close()
    opened(tmp_path).close()


def test_a_journal_that_cannot_be_made_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError) as refused:
        opened(tmp_path / "file" / "below")
    assert refused.value.code == "journal_unusable"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"results": [{"id": "1", "memory": "a", "event": "ADD"}]}, Told(("1",))),
        ([{"id": "1", "memory": "a", "event": "UPDATE"}], Told(("1",))),
        ({"results": [{"id": "1", "event": "DELETE"}]}, Told((), ("1",))),
        ({"results": [{"id": "1", "event": "NONE"}]}, Told(("1",))),
        ({"results": []}, Told()),
        ({"event_id": "e", "status": "PENDING"}, Told(pending=("e",))),
        ({"results": [{"event_id": "e", "status": "PENDING"}]}, Told(pending=("e",))),
        (
            {"status": "SUCCEEDED", "event_id": "e", "results": [{"id": "1", "event": "ADD"}]},
            Told(("1",)),
        ),
        (None, Told()),
        ("ok", Told()),
    ],
)
def test_the_answer_of_add_says_what_was_stored(answer, told):
    assert told_by_add(answer) == told


def test_the_owners_of_a_call_are_found_wherever_it_says_them():
    assert scope_of({"user_id": "u", "limit": 3}) == {"user_id": "u"}
    assert scope_of({"filters": {"user_id": "u", "n": 1}}) == {"user_id": "u"}
    assert scope_of({"options": {"filters": {"run_id": "r"}}}) == {"run_id": "r"}


def test_a_missing_memory_is_told_from_a_store_that_fails():
    assert means_gone(MissingError())
    caused = ValueError("not found")
    caused.__cause__ = MissingError()
    assert means_gone(caused)
    assert not means_gone(ValueError("not found"))
    assert not means_gone(TimeoutError())
    assert not means_gone(FileNotFoundError())


def test_rows_that_do_not_say_when_they_were_written_count_as_new():
    since = "2026-01-01T00:00:00+00:00"
    assert written_since({}, since)
    assert written_since({"created_at": "2026-01-01T00:00:01Z", "updated_at": None}, since)
    assert not written_since({"created_at": "2025-12-31T00:00:00Z"}, since)


def test_batches_name_their_memories():
    listed = [{"memory_id": "1", "text": "a"}, {"memory_id": "2"}]
    assert write_of("batch_update", [listed], {}).ids == ("1", "2")
    assert write_of("batch_delete", [], {"memories": listed}).told(None, None).gone == ("1", "2")
    assert write_of("update", (), {"memory_id": 5, "data": "x"}).ids == ("5",)


def test_bells_of_one_memory_are_one_and_close_each_operation_once():
    bells = Bells()
    for number in (1, 2):
        bells.ring(Bell("m", {}, numbers={number}, rung_at_s=number))
    [bell] = bells.take(5.0, 10)
    assert bell.numbers == {1, 2}
    assert bells.oldest_s(5.0) == 4.0
    bells.ring(Bell("m", {}, numbers={3}, rung_at_s=3))
    bells.again(bell, 9.0)
    assert bells.take(5.0, 10) == []
    [bell] = bells.take(9.0, 10)
    assert sorted(bells.done(bell.numbers)) == [1, 2, 3]
    assert bells.done(bell.numbers) == []
    assert len(bells) == 0


def test_an_operation_of_several_memories_closes_with_the_last():
    bells = Bells()
    for key in ("a", "b"):
        bells.ring(Bell(key, {}, numbers={1}))
    a, b = bells.take(1.0, 10)
    assert bells.done(a.numbers) == []
    assert bells.done(b.numbers) == [1]


def test_phases_are_read_from_a_file_an_environment_or_a_callable(tmp_path, monkeypatch):
    now_s = [0.0]
    file = tmp_path / "phase"
    phase = CurrentPhase("old-only", from_file(file), clock_s=lambda: now_s[0])
    assert phase.get() == "old-only"
    file.write_text("Dual_Write\n")
    assert phase.get() == "old-only"  # looked at once a second
    now_s[0] += 1
    assert phase.get() == "dual-write"
    phase.set("new-reads")
    now_s[0] += 1
    assert phase.get() == "new-reads"  # the file says nothing new
    file.write_text("nonsense")
    now_s[0] += 1
    assert phase.get() == "new-reads"
    monkeypatch.setenv("ENGRAM_DUALWRITE_PHASE", "shadow-read")
    assert CurrentPhase("old-only", from_environment()).get() == "shadow-read"
    assert CurrentPhase("old-only", lambda: 1 / 0).get() == "old-only"
    with pytest.raises(UsageError):
        as_phase("everything")
    assert [phase for phase in PHASES if mirrors(phase)] == [
        "dual-write", "shadow-read", "new-reads"
    ]  # fmt: skip


def test_overlap_counts_equal_texts_as_found():
    old = [{"id": "1", "memory": "a"}, {"id": "2", "memory": "b"}, {"id": "3", "memory": "c"}]
    new = [{"id": "1", "memory": "a"}, {"id": "9", "memory": "b"}]
    share, missing = overlap(old, new)
    assert (round(share, 3), missing) == (0.667, ["3"])
    assert overlap([], new) == (1.0, [])


@pytest.mark.parametrize(
    "wrong", [{"max_path_s": 0}, {"max_journal_bytes": 1}, {"shadow_sample": 2}]
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(UsageError):
        Options(**wrong)


def writing(folder, client=None, **options):
    return DualWriter(
        client or Memory(),
        workspace=str(uuid.uuid4()),
        journal=folder,
        nats_url="nats://127.0.0.1:1",
        **{"phase": "dual-write", **options},
    )


def test_a_disk_that_hangs_slows_a_write_by_the_bound_and_no_more(tmp_path, monkeypatch):
    let_go = threading.Event()
    real = Journal.sync
    monkeypatch.setattr(Journal, "sync", lambda self: (let_go.wait(20), real(self))[1])
    writer = writing(tmp_path, max_path_s=0.1)
    started_s = time.monotonic()
    for n in range(5):
        assert writer.add(f"fact {n}", user_id="u")["results"]
    took_s = time.monotonic() - started_s
    assert took_s < 5 * 0.1 + 0.5
    assert writer.stats().late >= 5
    let_go.set()
    writer.close(0)
    again = opened(tmp_path)
    assert len({record["n"] for record in again.replay()}) == 5
    again.close()


async def test_a_disk_that_refuses_fails_no_write_and_is_told(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(28, "no space")

    monkeypatch.setattr(Journal, "append", refuse)
    writer = writing(tmp_path)
    assert writer.add("fact", user_id="u")["results"]
    await eventually(lambda: writer.stats().diverged.get("unrecorded", 0) > 0)
    assert writer.stats().pending == 1  # it goes from memory
    writer.close(0)


def test_whatever_breaks_on_our_side_the_old_stores_answer_and_error_come_through(
    tmp_path, monkeypatch
):
    memory = Memory()
    writer = writing(tmp_path, memory)

    def broken(*_, **__):
        raise RuntimeError

    monkeypatch.setattr(writer._core, "begin", broken)
    [made] = writer.add("fact", user_id="u")["results"]
    monkeypatch.undo()
    monkeypatch.setattr(writer._core, "end", broken)
    assert writer.update(made["id"], data="other")["message"]
    with pytest.raises(ValueError, match="not found"):
        writer.delete("nobody")
    assert writer.get(made["id"])["memory"] == "other"
    assert writer.stats().diverged["unrecorded"] == 3
    writer.close(0)


def test_a_phase_that_does_not_mirror_writes_no_journal(tmp_path):
    writer = writing(tmp_path, phase="old-only")
    for n in range(3):
        writer.add(f"fact {n}", user_id="u")
    assert writer.stats().recorded == 0
    writer.set_phase("dual-write")
    writer.add("fact", user_id="u")
    assert writer.stats().recorded == 1
    writer.set_phase("old-only")
    writer.add("another", user_id="u")
    assert writer.stats().recorded == 1
    writer.close(0)


def test_the_journal_holds_no_text(tmp_path):
    writer = writing(tmp_path)
    writer.add("the secret of alice", user_id="u", metadata={"secret": "word"})
    writer.close(0)
    assert b"secret" not in b"".join(path.read_bytes() for path in tmp_path.glob("*.log"))


class Stream:
    """A publisher whose commands are done when the test says so."""

    def __init__(self):
        self.put_rows, self.deleted, self.done, self.before_answer = [], [], True, None

    async def connect(self):
        pass

    async def close(self):
        pass

    async def taken(self, event_id):  # noqa: ARG002 - as the real one
        return self.done

    async def put(self, rows, *, format_name, event_id):  # noqa: ARG002 - as the real one
        self.put_rows += [(row["id"], row["memory"]) for row in rows]
        if self.before_answer:
            self.before_answer()
        return [event_id]

    async def delete_named(self, source, names, *, event_id):  # noqa: ARG002 - as the real one
        self.deleted += names
        return [event_id]


@contextlib.contextmanager
def mirroring(memory, stream, **options):
    closed = []
    mirror = Mirror(
        Mem0Store(memory), Ledger(), lambda: stream, closed.extend, lambda *_: None, **options
    )
    try:
        yield mirror, closed
    finally:
        mirror.stop()


async def test_the_next_state_of_a_memory_waits_until_the_one_before_is_done(tmp_path):
    memory, stream = Memory(), Stream()
    one, other = [memory.add(text, user_id="u")["results"][0]["id"] for text in ("a", "b")]
    stream.done = False
    with mirroring(memory, stream) as (mirror, closed):
        mirror.ring([Bell(one, {}, numbers={1})])
        await eventually(lambda: closed == [1])
        memory.update(one, "changed")
        mirror.ring([Bell(one, {}, numbers={2}), Bell(other, {}, numbers={3})])
        await eventually(lambda: closed == [1, 3])  # another memory does not wait
        assert stream.put_rows == [(one, "a"), (other, "b")]
        stream.done = True
        await eventually(lambda: closed == [1, 3, 2])
        assert stream.put_rows[-1] == (one, "changed")


async def test_what_another_process_changed_while_it_was_published_is_published_again():
    memory, stream = Memory(), Stream()
    one = memory.add("a", user_id="u")["results"][0]["id"]
    later = iter(["theirs"])
    stream.before_answer = lambda: [memory.update(one, text) for text in later]
    with mirroring(memory, stream) as (mirror, closed):
        mirror.ring([Bell(one, {}, numbers={1})])
        await eventually(lambda: closed == [1])
    assert stream.put_rows == [(one, "a"), (one, "theirs")]


async def test_what_was_stored_and_is_not_shown_yet_is_not_taken_for_deleted(monkeypatch):
    monkeypatch.setattr("engram.dualwrite.bells._WAITS_S", (0.01,))
    memory, stream = Memory(), Stream()
    one = memory.add("a", user_id="u")["results"][0]["id"]
    real, blind = memory.get, iter(range(3))
    memory.get = lambda named: real(named) if next(blind, None) is None else None
    with mirroring(memory, stream) as (mirror, closed):
        mirror.ring([Bell(one, {}, numbers={1}), Bell("gone", {}, numbers={2})])
        await eventually(lambda: sorted(closed) == [1, 2])
    assert stream.put_rows == [(one, "a")]
    assert stream.deleted == ["gone"]


async def test_what_could_not_be_published_is_published_later_and_is_open_until_then(monkeypatch):
    monkeypatch.setattr("engram.dualwrite.bells._WAITS_S", (0.01,))
    away = iter(range(3))

    class Away(Stream):
        async def put(self, rows, **named):
            if next(away, None) is not None:
                assert closed == []
                raise UnavailableError("no_acknowledgement", "away")
            return await super().put(rows, **named)

    memory, stream = Memory(), Away()
    one = memory.add("a", user_id="u")["results"][0]["id"]
    with mirroring(memory, stream) as (mirror, closed):
        mirror.ring([Bell(one, {}, numbers={1})])
        await eventually(lambda: closed == [1])
    assert stream.put_rows == [(one, "a")]


async def test_a_row_that_engram_cannot_take_stops_nobody_else():
    class Picky(Stream):
        async def put(self, rows, *, format_name, event_id):
            if any(row["memory"] == "bad" for row in rows):
                raise InvalidError("not_json", "no")
            return await super().put(rows, format_name=format_name, event_id=event_id)

    memory, stream = Memory(), Picky()
    ids = [memory.add(text, user_id="u")["results"][0]["id"] for text in ("a", "bad", "c")]
    with mirroring(memory, stream) as (mirror, closed):
        mirror.ring([Bell(one, {}, numbers={n}) for n, one in enumerate(ids)])
        await eventually(lambda: sorted(closed) == [0, 1, 2])
        assert mirror._ledger.snapshot("", 0, 0, 0, 0).diverged == {"refused": 1}
    assert [text for _, text in stream.put_rows] == ["a", "c"]


class Edge:
    def __init__(self, named, fact):
        self.named, self.fact = named, fact

    def model_dump(self):
        return {"uuid_": self.named, "fact": self.fact, "created_at": "2026-01-01T00:00:00Z"}


class Graph:
    """``Zep().graph`` of zep-cloud 3."""

    def __init__(self, edges):
        self.edges, self.edge, self.asked = edges, self, []

    def get_by_user_id(self, user_id, *, limit, uuid_cursor):
        self.asked.append((user_id, uuid_cursor))
        names = [edge.named for edge in self.edges]
        at = names.index(uuid_cursor) + 1 if uuid_cursor else 0
        return self.edges[at : at + limit]

    def get(self, *, uuid_):
        found = [edge for edge in self.edges if edge.named == uuid_]
        if not found:
            raise MissingError
        return found[0]


class Zep:
    def __init__(self, edges):
        self.graph = Graph(edges)


def test_zeps_facts_are_read_page_by_page_with_their_owner():
    store = ZepStore(Zep([Edge(f"e{n}", f"fact {n}") for n in range(150)]))
    rows = flows.run(store.rows({"user_id": "u"}))
    assert len(rows) == 150
    assert {store.id_of(row) for row in rows} == {f"e{n}" for n in range(150)}
    assert rows[0]["user_id"] == "u"
    assert flows.run(store.read("e1", {"user_id": "u"})) == rows[1]
    assert flows.run(store.read("nobody", {})) is None
    assert store.told("add", {}, object()).pending == ("",)


def test_a_mem0_client_that_fails_is_not_taken_for_an_empty_one():
    memory = Memory()

    def failing(_):
        raise TimeoutError

    memory.get = failing
    with pytest.raises(TimeoutError):
        flows.run(Mem0Store(memory).read("m", {}))
