"""The page at `/_sandbox/`."""

import re

import pytest
import requests

from salesloft_sandbox import Fault

ATTACK = "<script>document.title = 'attacked'</script><img src=x onerror=\"document.title='attacked'\">"


@pytest.fixture
def url(api):
    return api.url.removesuffix("/v2") + "/_sandbox/"


@pytest.fixture
def filled(sandbox, api):
    """A sandbox with something in each section, and markup wherever someone else's text is shown."""
    sandbox.define_custom_field(ATTACK, "person")
    account = sandbox.add("account", name=ATTACK, domain="a.com", tags=[ATTACK])
    sandbox.add("person", email_address="a@b.co", title=ATTACK, account_id=account, custom_fields={ATTACK: ATTACK})
    api.post("/cadence_memberships", person_id=1, cadence_id=1)
    job = api.post("/bulk_jobs", type="person/upsert", name=ATTACK).json()["data"]["id"]
    api.post(f"/bulk_jobs/{job}/job_data", data=[{"email_address": "c@d.co"}, {"email_address": "x"}])
    api.put(f"/bulk_jobs/{job}", ready_to_execute=True)
    api.get("/<img src=x onerror=alert(1)>")
    sandbox.faults.add(Fault("status", path=ATTACK))
    sandbox.enter_world("null=ignore")
    return sandbox


def section(page, name):
    text = re.search(rf'<section id="{name}">(.*?)</section>', page, re.DOTALL)[1]
    return re.sub(r"<[^>]+>", " ", text)


@pytest.mark.usefixtures("filled")
def test_page_shows_what_the_sandbox_holds_and_escapes_it(url):
    response = requests.get(url, timeout=5)
    assert response.headers["content-type"].startswith("text/html")
    page = response.text
    for name, expected in {
        "worlds": ["null", "ignore", "clear"],
        "people": ["a@b.co", "c@d.co"],
        "accounts": ["a.com"],
        "memberships": ["active"],
        "jobs": ["person/upsert", "done", " 2 ", " 1 "],
        "faults": ["503"],
        "requests": ["POST", "/v2/bulk_jobs", "404"],
    }.items():
        shown = section(page, name)
        assert [each for each in expected if each not in shown] == []
    assert "<script" not in page
    assert "<img" not in page
    assert page.count("&lt;script&gt;") >= 5
    assert "default-src 'none'" in response.headers["content-security-policy"]


def test_page_shows_the_last_rows_of_many(sandbox, url):
    sandbox.seed(people=[{"email_address": f"p{number}@b.co"} for number in range(150)])
    shown = section(requests.get(url, timeout=5).text, "people")
    assert "150" in shown
    assert "p149@b.co" in shown
    assert "p49@b.co" not in shown
    assert shown.index("p149@b.co") < shown.index("p50@b.co")


@pytest.mark.parametrize("path", ["", "openapi.json", "worlds"])
@pytest.mark.parametrize("headers", [{"Host": "rebound.example"}, {"Origin": "https://page.example"}])
def test_page_is_shown_to_this_machine_only(url, path, headers):
    assert requests.get(url + path, headers=headers, timeout=5).status_code == 403
