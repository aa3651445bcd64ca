"""What becomes of arriving memories: new, folded, absorbed, known, refused — in any order."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st

from engram.domain.arrival import Arrivals, Arriving, Known, Strategy, arriving, decide_all
from engram.domain.memory import decode_item

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WORKSPACE = UUID(int=1)


def item(strategy: Strategy = "create", **fields: Any) -> Arriving:
    memory = decode_item({"content": "tea", **fields}, imported=True)
    return arriving(WORKSPACE, uuid4(), memory, strategy, NOW)


def known(arrived: Arriving, state: Any = "active") -> Known:
    return Known(arrived.id, 1, state, arrived.sha256)


def decide(*items: Arriving, named: Any = (), folded: Any = ()) -> list[str]:
    arrivals = Arrivals(
        [(i.external_key, k) for i, k in named if i.external_key],
        [(i.fold_key, k) for i, k in folded],
        NOW,
    )
    return [decision.kind for decision in decide_all(items, arrivals)]


def test_times_default_to_the_moment_of_arrival() -> None:
    fresh = item()
    assert (fresh.created_at, fresh.updated_at) == (NOW, NOW)
    moved = item(created_at="2020-01-01T00:00:00Z")
    assert moved.updated_at == moved.created_at == datetime(2020, 1, 1, tzinfo=UTC)


def test_the_first_is_stored_and_its_repeats_fold_or_are_absorbed() -> None:
    assert decide(item(), item(), item(external_id="1"), item(external_id="2")) == [
        *("insert", "fold", "absorb", "absorb"),
    ]


def test_another_owner_namespace_text_or_workspace_is_no_repeat() -> None:
    elsewhere = arriving(UUID(int=2), uuid4(), item().memory, "create", NOW)
    others = [item(user_id="u"), item(namespace="n"), item(content="Tea"), elsewhere]
    assert decide(item(), *others) == ["insert"] * 5


def test_a_known_name_answers_by_its_text() -> None:
    there = item(external_id="1")
    for state in ("active", "merged", "superseded"):
        assert decide(item(external_id="1"), named=[(there, known(there, state))]) == ["present"]
    changed = item(external_id="1", content="ale")
    assert decide(changed, named=[(there, known(there))]) == ["clash"]
    skipping = item("skip", external_id="1", content="ale")
    assert decide(skipping, named=[(there, known(there))]) == ["present"]
    for strategy in ("create", "skip"):
        again = item(strategy, external_id="1")
        assert decide(again, named=[(there, known(there, "deleted"))]) == ["deleted"]


def test_a_name_given_twice_in_one_batch_is_known_the_second_time() -> None:
    assert decide(
        item(external_id="1"), item(external_id="1"), item(external_id="1", content="ale")
    ) == ["insert", "present", "clash"]


def test_a_repeat_of_an_archived_memory_restores_it_once() -> None:
    there = item(external_id="1")
    old = known(there, "archived")
    arrivals = Arrivals([], [(there.fold_key, old)], NOW)
    decisions = decide_all([item(), item(), item(external_id="2")], arrivals)
    assert [d.restores for d in decisions] == [True, False, False]
    assert {d.target.id for d in decisions if d.target} == {there.id}


def test_the_same_name_said_again_restores_but_an_import_leaves_it() -> None:
    there = item(external_id="1")
    for strategy, restores in (("create", True), ("skip", False)):
        arrivals = Arrivals([(there.external_key, known(there, "archived"))], [], NOW)
        first, second = decide_all(
            [item(strategy, external_id="1"), item(strategy, external_id="1")], arrivals
        )
        assert (first.restores, second.restores) == (restores, False)


def test_what_has_expired_on_arrival_answers_for_nobody() -> None:
    past, future = (NOW + timedelta(days=n) for n in (-1, 1))
    assert decide(item(expires_at=past.isoformat()), item()) == ["insert", "insert"]
    assert decide(item(expires_at=future.isoformat()), item()) == ["insert", "fold"]


def test_what_is_not_active_is_stored_beside_its_repeats() -> None:
    assert decide(item(), item(state="superseded"), item(state="archived"), item()) == [
        *("insert", "insert", "insert", "fold"),
    ]


@given(
    st.lists(
        st.fixed_dictionaries(
            {"content": st.sampled_from("ab"), "user_id": st.sampled_from(["u", None])},
            optional={"external_id": st.sampled_from("123")},
        ),
        max_size=20,
    )
)
def test_any_batch_leaves_one_live_memory_of_a_text_and_one_of_a_name(
    batch: list[dict[str, Any]],
) -> None:
    items = [item(**fields) for fields in batch]
    decisions = decide_all(items, Arrivals([], [], NOW))
    pairs = list(zip(items, decisions, strict=True))
    live = [i.fold_key for i, d in pairs if d.kind == "insert"]
    assert len(live) == len(set(live))
    stored = {i.id for i, d in pairs if d.kind in ("insert", "absorb")}
    names = [i.external_key for i, d in pairs if i.id in stored and i.external_key]
    assert len(names) == len(set(names))
    for _, decision in pairs:
        assert decision.target is None or decision.target.id in stored
    again = Arrivals(
        [(i.external_key, known(i)) for i, d in pairs if i.id in stored and i.external_key],
        [(i.fold_key, known(i)) for i, d in pairs if d.kind == "insert"],
        NOW,
    )
    second = decide_all([item(**fields) for fields in batch], again)
    assert {d.kind for d in second} <= {"fold", "present", "clash"}


SOME = st.builds(
    item,
    st.sampled_from(["create", "skip", "merge", "replace"]),
    content=st.sampled_from(["tea", " tea", "ale", "wine"]),
    external_id=st.sampled_from([None, "1", "2", "3"]),
    user_id=st.sampled_from([None, "u"]),
    state=st.sampled_from(["active", "superseded"]),
    expires_at=st.sampled_from([None, "2025-01-01T00:00:00Z", "2027-01-01T00:00:00Z"]),
    id=st.sampled_from([None, None, str(UUID(int=7))]),
)


@given(st.lists(SOME, max_size=4))
def test_a_batch_is_decided_as_its_items_are_one_by_one(items: list[Arriving]) -> None:
    """Where nothing is known and all differ, all of them are new without looking at each."""
    one_by_one = Arrivals([], [], NOW)
    assert decide_all(items, Arrivals([], [], NOW)) == [one_by_one.decide(one) for one in items]
