from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from salesloft_sandbox.oauth import DEFAULT_CLIENT, DEFAULT_SECRET

REDIRECT = "http://127.0.0.1:8910/callback"


class Accounts:
    """Client of the authorization server of a sandbox."""

    def __init__(self, api):
        self.url = api.url.removesuffix("/v2")
        self.api = api.url

    def token(self, **form):
        known = {"client_id": DEFAULT_CLIENT, "client_secret": DEFAULT_SECRET}
        return requests.post(f"{self.url}/oauth/token", data={**known, **form}, timeout=5)

    def refresh(self, token):
        return self.token(grant_type="refresh_token", refresh_token=token)

    def authorize(self, choice=None, **query):
        params = {"client_id": DEFAULT_CLIENT, "redirect_uri": REDIRECT, "response_type": "code", **query}
        method, body = ("GET", None) if choice is None else ("POST", {"answer": choice})
        return requests.request(
            method, f"{self.url}/oauth/authorize", params=params, data=body, timeout=5, allow_redirects=False
        )

    def redirect_parameters(self, choice, **query):
        location = urlsplit(self.authorize(choice, **query).headers["Location"])
        return {name: values[0] for name, values in parse_qs(location.query).items()}

    def exchange(self, parameters, **changed):
        form = {name: parameters[name] for name in ("code", "context", "scope")}
        return self.token(**{"grant_type": "authorization_code", "redirect_uri": REDIRECT, **form, **changed})

    def me(self, token):
        headers = {"Authorization": f"Bearer {token}"}
        return requests.get(f"{self.api}/me", headers=headers, timeout=5).status_code


@pytest.fixture
def oauth(start_sandbox):
    def start(**options):
        sandbox, api = start_sandbox(**options)
        return sandbox, Accounts(api)

    return start


def test_authorization_code_can_be_used_once_by_a_known_application(oauth, manual_clock):
    _, accounts = oauth()
    parameters = accounts.redirect_parameters("allow", state="mine")
    assert parameters["state"] == "mine"
    response = accounts.exchange(parameters)
    assert response.status_code == 200
    assert accounts.me(response.json()["access_token"]) == 200
    again = accounts.exchange(parameters)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
    parameters = accounts.redirect_parameters("allow")
    manual_clock.tick(600)
    assert accounts.exchange(parameters).status_code == 400, "it expires after ten minutes"
    for unknown in ({"client_id": "nobody"}, {"redirect_uri": ""}):
        assert accounts.authorize("allow", **unknown).status_code == 400


@pytest.mark.parametrize(
    "changed", [{"context": "staging"}, {"scope": "people:read"}, {"redirect_uri": "http://127.0.0.1:1/"}]
)
def test_authorization_code_is_exchanged_with_its_own_parameters_only(oauth, changed):
    _, accounts = oauth()
    assert accounts.exchange(accounts.redirect_parameters("allow"), **changed).status_code == 400


def test_authorization_page_escapes_values(oauth):
    _, accounts = oauth(clients={"<b>&": "x"})
    page = accounts.authorize(client_id="<b>&")
    assert 'id="allow"' in page.text
    assert "<b>" not in page.text


def test_refresh_revokes_the_previous_refresh_and_access_tokens_until_a_reset(oauth):
    sandbox, accounts = oauth(refresh_tokens=["first"])
    first = accounts.refresh("first").json()
    second = accounts.refresh(first["refresh_token"]).json()
    assert [accounts.me(token["access_token"]) for token in (first, second)] == [401, 200]
    for old in ("first", first["refresh_token"]):
        response = accounts.refresh(old)
        assert (response.status_code, response.json()["error"]) == (400, "invalid_grant")
    sandbox.reset()
    assert accounts.me(second["access_token"]) == 401
    assert accounts.refresh("first").status_code == 200


def test_token_expires(oauth, manual_clock):
    _, accounts = oauth(token_seconds=5)
    token = accounts.token(grant_type="client_credentials").json()
    assert (token["expires_in"], "refresh_token" in token) == (5, False)
    manual_clock.tick(4.9)
    assert accounts.me(token["access_token"]) == 200
    manual_clock.tick(0.1)
    assert accounts.me(token["access_token"]) == 401


def test_scopes_apply_to_tokens_and_can_be_narrowed(oauth):
    _, accounts = oauth(oauth_scopes=["people:read", "team:read"])
    token = accounts.token(grant_type="client_credentials", scope="team:read").json()
    assert token["scope"] == "team:read"
    headers = {"Authorization": f"Bearer {token['access_token']}"}
    statuses = [
        requests.get(accounts.api + path, headers=headers, timeout=5).status_code for path in ("/users", "/people")
    ]
    assert statuses == [200, 403]
    wider = accounts.token(grant_type="client_credentials", scope="people:write")
    assert wider.json()["error"] == "invalid_scope"
