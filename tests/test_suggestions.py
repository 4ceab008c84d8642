import pytest

from target_salesloft.objects import ACCOUNTS, PEOPLE
from target_salesloft.suggestions import closest_match, did_you_mean

SETTINGS = ["api_key", "api_url", "dry_run", "rate_limit_per_minute", "sync_mode"]


@pytest.mark.parametrize("salesloft_object", [PEOPLE, ACCOUNTS])
@pytest.mark.parametrize(
    "column",
    [
        *("account", "company", "crm", "email", "email_addr", "fname", "id2", "lname", "mail", "null", "owner"),
        *("owner_email", "salesforce_id", "stage", "state_code", "url", "user_id", "", "_"),
    ],
)
def test_a_column_that_is_not_a_misspelled_field_gets_no_suggestion(salesloft_object, column):
    assert did_you_mean(column, salesloft_object.fields) == ""


@pytest.mark.parametrize(
    ("column", "field"),
    [
        ("email_adress", "email_address"),
        ("eamil_address", "email_address"),
        ("frist_name", "first_name"),
        ("titel", "title"),
        ("Last Name", "last_name"),
        ("tag", "tags"),
        ("crm_idd", "crm_id"),
    ],
)
def test_a_misspelled_field_is_suggested(column, field):
    assert f"'{field}'" in did_you_mean(column, PEOPLE.fields)


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("dryrun", "dry_run"),
        ("dry", "dry_run"),
        ("mode", "sync_mode"),
        ("rate_limit", "rate_limit_per_minute"),
        ("url", "api_url"),
        ("load_method", None),
        ("x", None),
    ],
)
def test_the_closest_setting_is_the_most_similar_one(name, setting):
    assert closest_match(name, SETTINGS) == setting
