from __future__ import annotations

import pytest

from target_salesloft.exceptions import ConfigError
from target_salesloft.target import TargetSalesloft

SECRETS = ["s3cr3t-key", "s3cr3t-client", "s3cr3t-refresh"]
KEY = {"api_key": SECRETS[0]}
CLIENT = {"client_id": "app", "client_secret": SECRETS[1]}
REFRESH = {"refresh_token": SECRETS[2]}
OAUTH = "OAuth needs client_id and client_secret, and refresh_token where a user has authorized the application."
KEEP = (
    "Keep api_key alone, or client_id and client_secret, with refresh_token where a user has authorized the "
    "application."
)


def faults(**config):
    with pytest.raises(ConfigError) as error:
        TargetSalesloft(config=config)
    assert not [each for each in SECRETS if each in str(error.value)]
    return error.value.errors


def test_no_way_of_authenticating_names_both():
    (fault,) = faults()
    assert fault == (
        "api_key is not set. Put a Salesloft API key into api_key, or into TARGET_SALESLOFT_API_KEY; or, for OAuth, "
        "set client_id and client_secret, with refresh_token where a user has authorized the application."
    )


@pytest.mark.parametrize(
    ("config", "found"),
    [
        (
            {**KEY, **CLIENT},
            [f"api_key and client_id and client_secret are two ways of authenticating. {KEEP}"],
        ),
        ({**KEY, **REFRESH}, [f"api_key and refresh_token are two ways of authenticating. {KEEP}"]),
        ({"client_id": "app"}, [f"client_id is set, but client_secret is not. {OAUTH}"]),
        ({"client_secret": SECRETS[1]}, [f"client_secret is set, but client_id is not. {OAUTH}"]),
        (
            REFRESH,
            [
                f"refresh_token is set, but client_id is not. {OAUTH}",
                f"refresh_token is set, but client_secret is not. {OAUTH}",
            ],
        ),
        (
            {**CLIENT, "refresh_token": f"{SECRETS[2]}\ny"},
            ["refresh_token holds a character that no token has."],
        ),
        ({**CLIENT, "client_secret": " "}, ["client_secret holds nothing but spaces."]),
    ],
)
def test_settings_that_do_not_belong_together_are_named(config, found):
    assert faults(**config) == found


@pytest.mark.parametrize(
    "config", [KEY, CLIENT, {**CLIENT, **REFRESH}, {**KEY, "client_id": "", "refresh_token": None}]
)
def test_each_way_of_authenticating_is_enough(config):
    target = TargetSalesloft(config=dict(config))
    target.close()
    assert target.client is not None


def test_an_authorization_server_is_asked_in_the_clear_on_this_machine_alone():
    for host in ("accounts.example", "10.0.0.1"):
        url = f"http://{host}/oauth/token"
        assert faults(**CLIENT, auth_url=url) == [
            f"auth_url is '{url}': the token would travel in the clear. Allowed: https://, or http:// to this machine."
        ]
    assert faults(**CLIENT, auth_url="accounts") == [
        "auth_url is 'accounts'. Allowed: an address such as https://accounts.salesloft.com/oauth/token."
    ]
