import pytest

from target_salesloft.exceptions import ConfigError
from target_salesloft.settings.validation import resolve

SECRETS = ["s3cr3t-key", "s3cr3t-client", "s3cr3t-refresh"]
KEY = {"api_key": SECRETS[0]}
CLIENT = {"client_id": "app", "client_secret": SECRETS[1]}
REFRESH = {"refresh_token": SECRETS[2]}


def errors(**config):
    with pytest.raises(ConfigError) as error:
        resolve(config)
    assert not [each for each in SECRETS if each in str(error.value)]
    return error.value.errors


def test_missing_credentials_name_the_settings():
    (error,) = errors()
    assert all(name in error for name in ("api_key", "TARGET_SALESLOFT_API_KEY", "client_id", "client_secret"))


@pytest.mark.parametrize(
    ("config", "method"),
    [
        (KEY, "api_key"),
        ({**KEY, "client_id": "", "refresh_token": None}, "api_key"),
        (CLIENT, "client_credentials"),
        ({**CLIENT, **REFRESH}, "refresh_token"),
        ({**CLIENT, "auth_method": "refresh_token"}, "refresh_token"),
        ({**CLIENT, **REFRESH, "auth_method": "refresh_token"}, "refresh_token"),
        ({**CLIENT, "auth_method": "client_credentials"}, "client_credentials"),
        ({**KEY, "auth_method": "api_key"}, "api_key"),
    ],
)
def test_method_is_inferred_from_the_settings(config, method):
    assert resolve(config).authentication == method


@pytest.mark.parametrize("config", [{}, {"auth_method": "refresh_token"}])
def test_dry_run_requires_no_credentials(config):
    resolve({**config, "dry_run": True})


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ({**KEY, **CLIENT}, [{"api_key", "client_id", "client_secret"}]),
        ({**KEY, **REFRESH}, [{"api_key", "refresh_token"}]),
        ({"client_id": "app"}, [{"client_secret", "client_credentials"}]),
        ({"client_secret": SECRETS[1]}, [{"client_id", "client_credentials"}]),
        (REFRESH, [{"client_id", "refresh_token"}, {"client_secret", "refresh_token"}]),
        ({**CLIENT, "refresh_token": f"{SECRETS[2]}\ny"}, [{"refresh_token"}]),
        ({**CLIENT, "client_secret": " "}, [{"client_secret"}]),
        ({"auth_method": "api_key"}, [{"auth_method", "api_key"}]),
        ({**CLIENT, "auth_method": "api_key"}, [{"Missing", "api_key"}, {"client_id", "client_secret"}]),
        ({**CLIENT, **REFRESH, "auth_method": "client_credentials"}, [{"auth_method", "refresh_token"}]),
        ({**KEY, "auth_method": "refresh_token"}, [{"client_id"}, {"client_secret"}, {"api_key"}]),
        ({**KEY, "auth_method": "login"}, [{"auth_method", "api_key", "client_credentials", "refresh_token"}]),
    ],
)
def test_contradictory_settings_are_named(config, names):
    found = errors(**config)
    assert len(found) == len(names)
    assert all(name in error for error, expected in zip(found, names, strict=True) for name in expected)


@pytest.mark.parametrize("host", ["accounts.example", "10.0.0.1"])
def test_unencrypted_auth_url_is_rejected_except_on_loopback(host):
    (error,) = errors(**CLIENT, auth_url=f"http://{host}/oauth/token")
    assert "auth_url" in error
    assert "https://" in error
    assert all("auth_url" in each for each in errors(**CLIENT, auth_url="accounts"))
    resolve({**CLIENT, "auth_url": "http://127.0.0.1:8765/oauth/token"})
