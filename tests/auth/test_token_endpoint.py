"""What an authorization server's answer comes to."""

import pytest

from target_salesloft.auth.token_endpoint import LIFETIME, parse_token_response


@pytest.mark.parametrize("told", [60, 60.0, "60"])
def test_a_token_lasts_as_long_as_the_server_says(told):
    assert parse_token_response({"access_token": "a", "expires_in": told}, 1_000.0).expires_at == 1_060.0


@pytest.mark.parametrize("told", [None, 0, -1, "soon", "nan", float("inf"), 10**400, [], {}])
def test_a_life_that_makes_no_sense_is_the_usual_one(told):
    assert parse_token_response({"access_token": "a", "expires_in": told}, 1_000.0).expires_at == 1_000.0 + LIFETIME
