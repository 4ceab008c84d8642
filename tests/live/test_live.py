"""What `verify` finds in a real team: `SALESLOFT_API_KEY=… pytest -m live -n 0`.

`SALESLOFT_CUSTOM_FIELDS` may name two text custom fields of people, separated by a comma, and `SALESLOFT_API_URL`
another Salesloft. `verify --clean` with the ledger `LEDGER` removes what an interrupted test leaves behind.
"""

import io
import json
import os
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from target_salesloft.cli import admin
from target_salesloft.verify.questions import QUESTIONS

API_KEY = os.environ.get("SALESLOFT_API_KEY")
API_URL = os.environ.get("SALESLOFT_API_URL", "https://api.salesloft.com/v2")
LEDGER = Path(tempfile.gettempdir()) / "target-salesloft-live.db"

pytestmark = [pytest.mark.live, pytest.mark.skipif(not API_KEY, reason="SALESLOFT_API_KEY is not set")]


@pytest.fixture(scope="module")
def verified(tmp_path_factory):
    """What `verify` prints."""
    config = tmp_path_factory.mktemp("live") / "config.json"
    values = {"api_key": API_KEY, "api_url": API_URL, "ledger_uri": f"sqlite:///{LEDGER}"}
    config.write_text(json.dumps(values), encoding="utf-8")
    names = filter(None, os.environ.get("SALESLOFT_CUSTOM_FIELDS", "").split(","))
    custom_fields = [argument for name in names for argument in ("--custom-field", name)]
    out = io.StringIO()
    with redirect_stdout(out):
        admin.main(["verify", "--yes", "--json", *custom_fields, "--config", str(config)])
    return json.loads(out.getvalue())


@pytest.mark.parametrize("name", [name for name, each in QUESTIONS.items() if each.assumed])
def test_salesloft_behaves_as_assumed(verified, name):
    (finding,) = (each for each in verified["findings"] if each["name"] == name)
    if finding["found"] is None:
        pytest.skip(finding["meaning"])
    assert finding["found"] == finding["assumed"], finding["meaning"]


def test_nothing_is_left_behind(verified):
    assert verified["not_removed"] == 0
