"""Parsing of token responses, and secrets in them."""

import pytest

from target_salesloft.redaction import redact_secrets
from target_salesloft.salesloft.auth.token_endpoint import DEFAULT_LIFETIME_SECONDS, parse_token_response


@pytest.mark.parametrize("text", ["a/b+c d", "a/b%2Bc%20d", "a%2Fb%2Bc+d", "a%2Fb%2Bc%20d"])
def test_secrets_are_redacted_in_each_encoding(text):
    assert redact_secrets(f"secret={text}&x=1 and a/b+c d", "a/b+c d", "") == "secret=***&x=1 and ***"


@pytest.mark.parametrize("seconds", [60, 60.0, "60"])
def test_lifetime_of_the_response_is_used(seconds):
    assert parse_token_response({"access_token": "a", "expires_in": seconds}, 1_000.0).expires_at == 1_060.0


@pytest.mark.parametrize("seconds", [None, 0, -1, "soon", "nan", float("inf"), 10**400, [], {}])
def test_invalid_lifetime_is_replaced_by_the_default(seconds):
    token = parse_token_response({"access_token": "a", "expires_in": seconds}, 1_000.0)
    assert token.expires_at == 1_000.0 + DEFAULT_LIFETIME_SECONDS


@pytest.mark.parametrize("refresh_token", [{}, {"refresh_token": None}, {"refresh_token": ""}])
def test_token_without_a_refresh_token_is_valid(refresh_token):
    assert parse_token_response({"access_token": "a", **refresh_token}, 1_000.0).refresh_token is None
