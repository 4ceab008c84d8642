from __future__ import annotations

import pytest


@pytest.fixture(params=["sqlite", "postgresql"])
def uri(request, tmp_path):
    if request.param == "postgresql":
        return request.getfixturevalue("database").url
    return f"sqlite:///{tmp_path}/state/ledger.db"
