"""Every code block of the documents does what it says, read in order by somebody who has nothing but them."""

from __future__ import annotations

import re
import socket
import sys

import pytest
import yaml

from salesloft_sandbox import Sandbox, SandboxServer
from salesloft_sandbox.api_keys import DEFAULT_KEY
from tests.docs.blocks import DOCUMENTS, ROOT, blocks_of
from tests.docs.reader import Reader, choose_rows
from tests.docs.recipes import Recipe
from tests.docs.shell import REMOTE, Shell, publish

# A user of Meltano, in this order; everybody else begins in the clone, and changes its code last.
WITH_MELTANO = [ROOT / "README.md", ROOT / "docs" / "production.md", ROOT / "docs" / "authentication.md"]
CHANGING_IT = [ROOT / "docs" / "adding-an-object.md"]
IN_THE_CLONE = [each for each in DOCUMENTS if each not in WITH_MELTANO + CHANGING_IT]
PORTS = re.compile(r"\b(8765|8766|8910)\b")


@pytest.fixture
def ports():
    """Put free ports in the place of those that the documents name: somebody may use these."""
    free = {}

    def replace(found):
        if found[0] not in free:
            with socket.create_server(("127.0.0.1", 0)) as taken:
                free[found[0]] = str(taken.getsockname()[1])
        return free[found[0]]

    return lambda text: PORTS.sub(replace, text)


@pytest.fixture
def salesloft():
    """The Salesloft that the reader's keys are for."""
    with SandboxServer(Sandbox(api_keys=["your-api-key", "emea-api-key", DEFAULT_KEY])) as server:
        yield server


@pytest.fixture
def shell(tmp_path, salesloft, ports):
    publish(tmp_path, ports)
    addresses = {"TARGET_SALESLOFT_API_URL": salesloft.url, "TARGET_SALESLOFT_AUTH_URL": salesloft.auth_url}
    shell = Shell(tmp_path, addresses, sys.executable)
    yield shell
    shell.close()


@pytest.fixture
def project(shell):
    """A Meltano project that has a tap."""
    project = shell.directory / "your-project"
    project.mkdir()
    tap = project / "tap-yours"
    tap.write_text(f"#!/bin/sh\ncat {project}/rows.singer\n", encoding="utf-8")
    tap.chmod(0o755)
    choose_rows(project, "right")
    extractor = {"name": "tap-yours", "namespace": "tap_yours", "executable": str(tap)}
    meltano = {"default_environment": "dev", "environments": [{"name": "dev"}], "plugins": {"extractors": [extractor]}}
    (project / "meltano.yml").write_text(yaml.safe_dump(meltano), encoding="utf-8")
    return project


@pytest.fixture
def reader(shell, project, run, sandbox, ports):
    return Reader(shell, Recipe(run, sandbox), run, ports, project)


def read(reader, document):
    for block in blocks_of(document):
        try:
            reader.do(block)
        except Exception as error:
            raise AssertionError(f"{block.place}: {error}") from error


@pytest.mark.slow
def test_a_user_of_meltano_follows_the_readme_into_production(reader, salesloft):
    for document, begin in zip(WITH_MELTANO, (".", "target-salesloft", "your-project"), strict=True):
        reader.shell.go_to(begin)
        read(reader, document)
    assert [each["email_address"] for each in salesloft.sandbox.people() if "edsger" in each["email_address"]]
    runs = [each for each in reader.shell.called("docker") if each.startswith("run ")]
    assert reader.shell.called("docker")[0] == "build -t target-salesloft ."
    assert all(" target-salesloft" in each for each in runs)
    assert any("--env-file target-salesloft.env -v target-salesloft-state:/state" in each for each in runs)
    assert reader.shell.called("mail-to") == ["-s Salesloft sync ended with 1 data-team@example.com"]
    assert "1 record failed (people: 1 × email_address" in "\n".join(reader.shell.called("mail"))


@pytest.mark.slow
def test_everybody_else_follows_the_other_documents_in_a_clone(reader):
    reader.shell.run(f"git clone -q {REMOTE}")
    for document in IN_THE_CLONE:
        reader.shell.go_to("target-salesloft")
        read(reader, document)
    in_ci = "".join(each.read_text(encoding="utf-8") for each in sorted((ROOT / ".ci").iterdir()))
    once = set(reader.shell.called("once"))
    assert ".ci/run" in once
    for command in once - {".ci/run"}:
        assert command.removesuffix(" .") in in_ci, f"'{command}' is not run here, and .ci/run does not run it either"


def test_no_document_is_left_out():
    assert set(WITH_MELTANO) <= set(DOCUMENTS)
    assert {each.name for each in ROOT.glob("docs/*.md")} <= {each.name for each in DOCUMENTS}
