"""Assumptions about Salesloft, and worlds in which they do not hold. `tests/cli/test_verify.py` tests each of these."""

import pytest
import requests

from salesloft_sandbox import Sandbox
from salesloft_sandbox.__main__ import main
from salesloft_sandbox.worlds import ASSUMPTIONS

HEADER = "x-sandbox-assumption"
EMAIL = "a@b.co"


def assumed(response):
    return set(filter(None, response.headers.get(HEADER, "").split(", ")))


def upsert(api, **fields):
    return api.post("/person_upserts", **{"upsert_key": "email_address", "email_address": EMAIL, **fields})


@pytest.mark.parametrize(
    ("method", "path", "body", "world"),
    [
        ("put", "/people/1", {"custom_fields": {"Region": "EU"}}, "custom_fields=merge"),
        ("put", "/people/1", {"title": None}, "null=clear"),
        ("put", "/people/1", {"tags": ["b"]}, "lists=replace"),
        ("put", "/accounts/1", {"domain": "http://a.com"}, "domains=raw"),
        ("post", "/bulk_jobs", {"type": "account/upsert"}, "account_jobs=supported"),
        (
            "post",
            "/person_upserts",
            {"upsert_key": "email_address", "email_address": "A@b.co"},
            "email_case=insensitive",
        ),
        ("post", "/people", {"email_address": "c@d.co", "nickname": "Al"}, "unknown_fields=reject"),
        ("post", "/people", {"email_address": "c@d.co", "custom_fields": {"X": "1"}}, "unknown_custom_fields=reject"),
    ],
)
def test_responses_name_the_assumption_that_they_depend_on(sandbox, api, method, path, body, world):
    sandbox.add("person", email_address=EMAIL, title="CEO", tags=["a"], custom_fields={"Lead Score": "1"})
    sandbox.add("account", name="A", domain="a.com")
    assert assumed(getattr(api, method)(path, **body)) == {world}


@pytest.mark.parametrize(("world", "upsert_type"), [("insensitive", "update"), ("sensitive", "create")])
def test_upserts_by_address_depend_on_its_case(sandbox, api, world, upsert_type):
    sandbox.add("person", email_address="Ada@B.co")
    sandbox.enter_world(f"email_case={world}")
    assert upsert(api, email_address="ada@b.co").json()["data"]["upsert_type"] == upsert_type


def test_responses_that_depend_on_no_assumption_have_no_header(api):
    assert HEADER not in upsert(api, title="CEO", custom_fields={"Region": "EU"}, tags=["x"]).headers
    assert HEADER not in upsert(api, title="CTO").headers
    assert HEADER not in api.get("/people").headers


@pytest.mark.parametrize(
    ("world", "named"),
    [
        ("shape=flat", "shape"),
        ("custom_fields", "custom_fields"),
        ("custom_fields=erase", "erase"),
        ("ignored_fields=shoe_size", "shoe_size"),
    ],
)
def test_unknown_world_is_an_error(sandbox, capsys, world, named):
    with pytest.raises(ValueError, match=named):
        sandbox.enter_world("null=ignore", world)
    assert sandbox.assumptions.values["null"] == "clear"
    with pytest.raises(ValueError, match=named):
        Sandbox(worlds=[world])
    with pytest.raises(SystemExit):
        main(["serve", "--world", world])
    assert named in capsys.readouterr().err


def test_command_lists_every_assumption_with_its_worlds(capsys):
    assert main(["worlds"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for assumption in ASSUMPTIONS.values():
        if assumption.default:
            assert any(line.startswith(f"{assumption.name}={assumption.default} (default)") for line in lines)
        for world, meaning in assumption.worlds.items():
            assert any(line.startswith(world) and line.endswith(meaning) for line in lines)


def test_worlds_are_read_and_changed_at_run_time(sandbox, api):
    url = f"{api.url.removesuffix('/v2')}/_sandbox/worlds"
    shown = {each["name"]: each for each in requests.get(url, timeout=5).json()}
    assert shown.keys() == ASSUMPTIONS.keys()
    assert shown["null"]["value"] == shown["null"]["default"] == "clear"
    assert requests.post(url, json={"enter": ["null=ignore", "ids=text"]}, timeout=5).status_code == 200
    assert sandbox.assumptions.values.items() >= {"null": "ignore", "ids": "text"}.items()
    for body in ({"enter": ["null=maybe"]}, {"enter": "null=clear"}, {}):
        assert requests.post(url, json=body, timeout=5).status_code == 400
    assert requests.delete(url, timeout=5).status_code == 200
    assert sandbox.assumptions.values["null"] == "clear"
