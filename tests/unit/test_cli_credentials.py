"""Which server and key the command line uses."""

import pytest

from engram.errors import UnauthenticatedError
from engram_cli.credentials import resolve_target
from engram_cli.runtime.datadir import Credentials, write_credentials

STORED = Credentials("http://127.0.0.1:1234", "stored", "nats", "db", "dir", "http://127.0.0.1:99")


@pytest.fixture
def folder(tmp_path):
    write_credentials(tmp_path, STORED)
    return tmp_path


def target(env, folder):
    found = resolve_target(env, folder)
    return found.url, found.api_key, found.ops_url


def test_the_environment_alone_is_enough(tmp_path):
    env = {"ENGRAM_URL": "https://e.example/x", "ENGRAM_API_KEY": "k"}
    assert target(env, tmp_path) == ("https://e.example/x", "k", "http://e.example:8081")
    env["ENGRAM_OPS_PORT"] = "77"
    assert target(env, tmp_path)[2] == "http://e.example:77"


def test_without_an_environment_what_up_left_is_used(folder):
    assert target({}, folder) == ("http://127.0.0.1:1234", "stored", "http://127.0.0.1:99")


def test_a_key_of_the_environment_goes_to_the_stored_server(folder):
    assert target({"ENGRAM_API_KEY": "k"}, folder)[:2] == ("http://127.0.0.1:1234", "k")


def test_the_stored_key_is_never_sent_to_another_server(folder):
    with pytest.raises(UnauthenticatedError):
        resolve_target({"ENGRAM_URL": "http://elsewhere:1234"}, folder)
    same = {"ENGRAM_URL": "http://127.0.0.1:1234/"}
    assert target(same, folder)[1] == "stored"


def test_a_key_alone_means_the_default_server(tmp_path):
    assert target({"ENGRAM_API_KEY": "k"}, tmp_path)[0] == "http://127.0.0.1:8080"


def test_nothing_at_all_is_not_authenticated(tmp_path):
    with pytest.raises(UnauthenticatedError) as caught:
        resolve_target({}, tmp_path)
    assert caught.value.code == "no_api_key"


def test_a_key_is_not_in_what_is_logged(folder):
    assert "stored" not in repr(resolve_target({}, folder))
