"""The commands of the documents run, in order, for a user who has nothing but the documents."""

import re
import socket

import pytest
import yaml

from salesloft_sandbox import Sandbox, SandboxServer
from salesloft_sandbox.api_keys import DEFAULT_KEY
from tests.docs.blocks import DOCS, DOCUMENTS, ROOT, get_blocks
from tests.docs.commands import HERE, REMOTE, Workspace

# Read in this order in one Meltano project.
WITH_MELTANO = [
    DOCS / f"{name}.md"
    for name in (
        "start/five-minutes",
        "start/meltano",
        "start/without-meltano",
        "guides/docker",
        "guides/schedulers",
        "guides/alerts",
        "guides/monitoring",
        "guides/failed-records",
        "guides/teams",
        "guides/authentication",
    )
]
# Pages that include others, and commands for developers, which CI runs by themselves.
NOT_RUN = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(DOCS / "contributing").glob("*.md")]
IN_A_CLONE = [each for each in DOCUMENTS if each not in WITH_MELTANO + NOT_RUN]
PORTS = re.compile(r"\b(8765|8766|8767|8768|8769|8910)\b")
DIRECTIVES = {"arrives", "example", "fails", "file", "held", "in", "rows", "skip", "tap"}


@pytest.fixture
def replace_ports():
    """Replace the ports that documents name with free ones."""
    free = {}

    def replace(found):
        if found[0] not in free:
            with socket.create_server(("127.0.0.1", 0)) as server:
                free[found[0]] = str(server.getsockname()[1])
        return free[found[0]]

    return lambda text: PORTS.sub(replace, text)


@pytest.fixture
def salesloft():
    """The sandbox that the documents' API keys belong to."""
    with SandboxServer(Sandbox(api_keys=["your-api-key", "emea-api-key", DEFAULT_KEY])) as server:
        yield server


@pytest.fixture
def workspace(tmp_path, salesloft, replace_ports):
    urls = {"TARGET_SALESLOFT_API_URL": salesloft.url, "TARGET_SALESLOFT_AUTH_URL": salesloft.auth_url}
    workspace = Workspace(tmp_path, urls, replace_ports)
    yield workspace
    workspace.close()


@pytest.fixture
def project(workspace):
    """A Meltano project with two taps."""
    project = workspace.directory / "your-project"
    project.mkdir()
    (project / "rows.singer").write_bytes((HERE / "right.singer").read_bytes())
    extractors = []
    for name, rows in {"tap-yours": project / "rows.singer", "tap-postgres": HERE / "warehouse.singer"}.items():
        tap = project / name
        tap.write_text(f"#!/bin/sh\ncat {rows}\n", encoding="utf-8")
        tap.chmod(0o755)
        extractors.append({"name": name, "namespace": name.replace("-", "_"), "executable": str(tap)})
    meltano = {"default_environment": "dev", "environments": [{"name": "dev"}], "plugins": {"extractors": extractors}}
    (project / "meltano.yml").write_text(yaml.safe_dump(meltano), encoding="utf-8")


@pytest.mark.slow
@pytest.mark.usefixtures("project")
def test_commands_with_meltano(workspace, salesloft):
    workspace.run_documents(*WITH_MELTANO, start=".")
    emails = [each["email_address"] for each in salesloft.sandbox.people()]
    assert "jorg.andersson@ironvale-ceramics.example" in emails
    linked = {each["email_address"]: each["account_id"] for each in salesloft.sandbox.people()}
    assert linked["mia@tannwald-foods.example"] is not None
    assert "gone@tannwald-foods.example" not in emails
    assert "edsger@example.com" in emails, "the failed record was not replayed"
    mail = (workspace.calls / "mail").read_text(encoding="utf-8")
    assert "email_address" in mail
    assert "edsger" not in mail


@pytest.mark.slow
def test_commands_in_a_clone(workspace):
    workspace.run(f"git clone -q {REMOTE}")
    workspace.run_documents(*IN_A_CLONE, start="target-salesloft")


def test_directives_are_known():
    for document in DOCUMENTS:
        for block in get_blocks(document):
            assert block.directives.keys() <= DIRECTIVES, block.location
