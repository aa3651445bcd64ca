"""Specifications of spaces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.domain.spaces import (
    MAX_DIMENSIONS,
    are_compatible,
    choose_default,
    parse_embedding,
    providers,
    with_model,
)
from engram.errors import ConflictError, UsageError

GOOD = {
    "voyage": "voyage:voyage-4@1024",
    "voyage:voyage-4-lite": "voyage:voyage-4-lite@1024",
    "voyage:voyage-4@256": "voyage:voyage-4@256",
    "openai": "openai:text-embedding-3-small@1536",
    "openai:text-embedding-3-large": "openai:text-embedding-3-large@3072",
    "openai@512": "openai:text-embedding-3-small@512",
    "openai:nomic-embed-text:latest@768": "openai:nomic-embed-text:latest@768",
    "openai:BAAI/bge-m3@1024": "openai:BAAI/bge-m3@1024",
    "minilm": "minilm:all-minilm-l6-v2@384",
    "hashing@256": "hashing:ngram-1@256",
    "hashing": "hashing:ngram-1@256",
    "null@1024": "null:shake-1@1024",
    " minilm ": "minilm:all-minilm-l6-v2@384",
}
BAD = {
    "": "unknown_provider",
    "voyge": "unknown_provider",
    "Voyage": "unknown_provider",
    "@1024": "unknown_provider",
    "voyage:": "bad_model",
    "voyage:@1024": "bad_model",
    "openai:with space@3": "bad_model",
    "voyage:voyage-4@1000": "bad_dimensions",
    "openai@1537": "bad_dimensions",
    "minilm@256": "bad_dimensions",
    "hashing@0": "bad_dimensions",
    "hashing@-1": "bad_dimensions",
    "hashing@": "bad_dimensions",
    "hashing@01": "bad_dimensions",
    "hashing@3073": "bad_dimensions",
    "hashing@2.5": "bad_dimensions",
    "hashing@٣": "bad_dimensions",
    "hashing@1@2": "bad_dimensions",
    "minilm:other": "unknown_model",
    "openai:nomic-embed-text": "missing_dimensions",
}


@pytest.mark.parametrize(("text", "key"), GOOD.items())
def test_a_specification_is_completed_with_the_providers_defaults(text, key):
    assert parse_embedding(text).key == key


@pytest.mark.parametrize(("text", "code"), BAD.items())
def test_a_wrong_specification_is_refused_with_a_cure(text, code):
    with pytest.raises(UsageError) as caught:
        parse_embedding(text)
    assert caught.value.code == code
    assert caught.value.cure


@pytest.mark.parametrize("text", GOOD)
def test_a_key_reads_back_as_its_own_space(text):
    spec = parse_embedding(text)
    assert parse_embedding(spec.key) == spec


def test_a_near_miss_is_answered_with_what_was_meant():
    with pytest.raises(UsageError, match="Did you mean voyage"):
        parse_embedding("voyge:voyage-4")
    with pytest.raises(UsageError, match="voyage:voyage-4@1024"):
        parse_embedding("voyage:voyage-4@1000")


def test_only_models_with_two_sides_have_an_input_type():
    assert parse_embedding("voyage").input_type == "document"
    assert parse_embedding("minilm").input_type == "none"


@pytest.mark.parametrize("key", [None, "", "  "])
def test_without_a_voyage_key_the_local_model_is_the_default(key):
    assert choose_default(key).provider == "minilm"


def test_with_a_voyage_key_voyage_is_the_default():
    assert choose_default("pa-1").key == "voyage:voyage-4@1024"


def test_every_provider_has_a_default():
    for name in providers():
        assert 1 <= parse_embedding(name).dimensions <= MAX_DIMENSIONS


@given(st.text(max_size=40))
def test_any_text_is_a_space_or_a_usage_error(text):
    try:
        spec = parse_embedding(text)
    except UsageError:
        return
    assert 1 <= spec.dimensions <= MAX_DIMENSIONS
    assert parse_embedding(spec.key) == spec


@pytest.mark.parametrize("model", ["voyage-4", "voyage-4-lite", "voyage-4-large"])
def test_models_of_one_family_share_a_space_at_equal_dimensions(model: str) -> None:
    space = parse_embedding("voyage:voyage-4@1024")
    other = parse_embedding(f"voyage:{model}@1024")
    assert are_compatible(space, other)
    assert with_model(space, model) == other
    assert not are_compatible(space, parse_embedding(f"voyage:{model}@512"))


@pytest.mark.parametrize(
    "name", ["voyage:voyage-3-large@1024", "openai:voyage-4@1024", "null@1024"]
)
def test_nothing_else_shares_a_space(name: str) -> None:
    space, other = parse_embedding("voyage:voyage-4@1024"), parse_embedding(name)
    assert not are_compatible(space, other)
    assert not are_compatible(other, space)
    assert are_compatible(other, other)


def test_a_model_of_another_family_is_refused_with_those_that_would_do() -> None:
    with pytest.raises(ConflictError, match="voyage-4-lite"):
        with_model(parse_embedding("voyage:voyage-4@1024"), "voyage-3.5")
    with pytest.raises(ConflictError, match="engram migrate"):
        with_model(parse_embedding("minilm"), "other")
