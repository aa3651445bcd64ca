"""Secrets given as files: read once, without their last line break, and refused aloud."""

import pytest

from engram.errors import UsageError
from engram.settings import load, secret_names


def test_every_secret_may_be_given_as_a_file_without_its_last_line_break(tmp_path):
    for name in secret_names():
        (tmp_path / name).write_text(f"value of {name}\n")
    settings = load({f"{name}_FILE": str(tmp_path / name) for name in secret_names()})
    assert settings.require_database() == "value of ENGRAM_DATABASE_URL"
    assert settings.require_nats() == "value of ENGRAM_NATS_URL"
    assert settings.providers.voyage_api_key == "value of VOYAGE_API_KEY"
    assert settings.providers.openai_api_key == "value of ENGRAM_OPENAI_API_KEY"


def test_only_secrets_may_be_given_as_files():
    with pytest.raises(UsageError) as refused:
        load({"ENGRAM_PORT_FILE": "/dev/null"})
    assert refused.value.code == "unknown_setting"


def test_a_secret_given_twice_is_refused(tmp_path):
    (tmp_path / "url").write_text("nats://one")
    with pytest.raises(UsageError) as refused:
        load({"ENGRAM_NATS_URL": "nats://two", "ENGRAM_NATS_URL_FILE": str(tmp_path / "url")})
    assert refused.value.code == "setting_given_twice"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (None, "secret_file_unreadable"),
        (b"\xff\xfe", "secret_file_unreadable"),
        (b"\n", "secret_file_empty"),
    ],
)
def test_a_file_that_gives_no_secret_is_refused_by_its_variable(tmp_path, content, code):
    if content is not None:
        (tmp_path / "url").write_bytes(content)
    with pytest.raises(UsageError) as refused:
        load({"ENGRAM_NATS_URL_FILE": str(tmp_path / "url")})
    assert refused.value.code == code
    assert "ENGRAM_NATS_URL_FILE" in refused.value.detail
