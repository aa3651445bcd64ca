"""Both hashes of a text at once are what each is alone."""

from hypothesis import given
from hypothesis import strategies as st

from engram.domain.memory import content_hash, fold_hash, hashes

TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.text(" \t\nabé")


@given(TEXTS)
def test_hashes_are_the_hash_of_the_fold_and_that_of_the_content(text):
    assert hashes(text) == (fold_hash(text), content_hash(text))
