"""The sandbox as a package of its own."""

import email
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import salesloft_sandbox

pytestmark = pytest.mark.slow

PACKAGE = Path(__file__).parents[2] / "packages" / "salesloft-sandbox"
WORKFLOWS = Path(__file__).parents[2] / ".github" / "workflows"


def test_wheel_contains_the_package_with_a_version_a_command_and_a_pytest_plugin_of_its_own(tmp_path):
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=PACKAGE, check=True, capture_output=True)
    (path,) = tmp_path.iterdir()
    with zipfile.ZipFile(path) as archive:
        wheel = {name: archive.read(name).decode() for name in archive.namelist()}
    files = {
        path.relative_to(PACKAGE).as_posix() for path in (PACKAGE / "salesloft_sandbox").rglob("*") if path.is_file()
    }
    assert {name for name in wheel if ".dist-info/" not in name} == {
        name for name in files if "__pycache__" not in name
    }
    (metadata,) = [email.message_from_string(text) for name, text in wheel.items() if name.endswith("/METADATA")]
    assert metadata["Version"] == salesloft_sandbox.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", salesloft_sandbox.__version__)
    assert not [each for each in metadata.get_all("Requires-Dist") if re.match("target|singer|pytest", each)]
    assert "sandbox-v" not in (WORKFLOWS / "release.yml").read_text(encoding="utf-8")
    assert 'tags: ["sandbox-v*"]' in (WORKFLOWS / "release-sandbox.yml").read_text(encoding="utf-8")
    (entry_points,) = [text for name, text in wheel.items() if name.endswith("/entry_points.txt")]
    assert "salesloft-sandbox = salesloft_sandbox.__main__:main" in entry_points
    assert "[pytest11]" in entry_points
