"""What the ledger keeps apart."""

from __future__ import annotations

import pytest

from target_salesloft.ledger.opening import get_scope

CONFIG = {"api_url": "https://api.salesloft.com/v2", "api_key": "ak-s3cr3t"}


def test_scope_is_the_host_and_the_team():
    assert get_scope(CONFIG, {"id": 7, "team": {"id": 12}}) == "api.salesloft.com/team/12"


@pytest.mark.parametrize("identity", [None, {}, {"team": None}, {"team": {}}, {"team": "12"}])
def test_scope_is_a_hash_of_the_credentials_if_the_team_is_unknown(identity):
    scope = get_scope(CONFIG, identity)
    assert scope.startswith("api.salesloft.com/credentials/")
    assert "s3cr3t" not in scope
    assert get_scope({**CONFIG, "api_key": "ak-other"}, identity) != scope
    # The refresh token changes with each refresh, the client does not.
    rotated = [{**CONFIG, "client_id": "app", "refresh_token": token} for token in ("one", "two")]
    assert len({get_scope(each, identity) for each in rotated}) == 1
