"""openapi.json is what the routes say."""

import json

from engram_ingest.app import build_app
from tests.meta.checkout import text


def test_the_committed_document_is_the_generated_one():
    assert json.loads(text("openapi.json")) == build_app().openapi(), "run `make openapi`"


def test_it_is_openapi_3_1():
    assert json.loads(text("openapi.json"))["openapi"].startswith("3.1.")


def test_every_route_documents_its_refusals():
    for path, verbs in json.loads(text("openapi.json"))["paths"].items():
        for verb, operation in verbs.items():
            refusals = set(operation["responses"]) & {"401", "422", "429", "503"}
            assert refusals == {"401", "422", "429", "503"}, f"{verb} {path}"
