"""What is published: the wheel, the source distribution, and what is said of a release."""

from __future__ import annotations

import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

if TYPE_CHECKING:
    from email.message import Message

ROOT = Path(__file__).parents[1]
CHANGELOG = """# Changelog

## [Unreleased]

- Not yet.

## [1.1.0] - 2026-12-24

### Added

- More.

## [1.0.0] - 2026-11-24

- All.
"""


@dataclass
class Package:
    wheel: Path
    sdist: Path
    unpacked: Path
    files: set[str]
    metadata: Message


def build(source, target, into, **environment):
    """Build with the build system of the development environment: without a network."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(into)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, env={**os.environ, **environment})
    (built,) = into.iterdir()
    return built


def files_of(directory, root=ROOT):
    paths = (path for path in (root / directory).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(root).as_posix() for path in paths}


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """Build the source distribution, and from it the wheel, as for a release."""
    sdist = build(ROOT, "sdist", tmp_path_factory.mktemp("sdist"))
    directory = tmp_path_factory.mktemp("unpacked")
    # Not `tarfile`: some Pythons want a filter for it, and 3.11 as Debian has it knows of none.
    subprocess.run(["tar", "-xzf", sdist, "-C", directory], check=True)
    (unpacked,) = directory.iterdir()
    wheel = build(unpacked, "wheel", tmp_path_factory.mktemp("wheel"))
    with zipfile.ZipFile(wheel) as archive:
        files = set(archive.namelist())
        (name,) = (name for name in files if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    return Package(wheel, sdist, unpacked, files, metadata)


def test_the_wheel_holds_the_whole_package_and_nothing_else(package):
    beside = {name for name in package.files if not name.startswith("target_salesloft/")}
    assert package.files - beside == files_of("target_salesloft")
    assert {name.partition("/")[0] for name in beside} == {f"{package.sdist.name.removesuffix('.tar.gz')}.dist-info"}


def test_the_wheel_says_that_it_is_typed(package):
    assert "target_salesloft/py.typed" in package.files


def test_the_licence_is_named_and_enclosed(package):
    assert package.metadata["License-Expression"] == "Apache-2.0"
    assert package.metadata["License-File"] == "LICENSE"
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in package.files)


def test_the_metadata_are_of_a_version_that_the_tools_of_a_release_read(package):
    assert package.metadata["Metadata-Version"] == "2.4"


def test_the_wheel_needs_nothing_of_the_sandbox(package):
    needed = package.metadata.get_all("Requires-Dist")
    assert [need for need in needed if re.match("salesloft|starlette|uvicorn", need)] == []


def test_the_ci_tries_each_python_that_the_package_names(package):
    classifiers = package.metadata.get_all("Classifier")
    named = [found[1] for line in classifiers if (found := re.fullmatch(r".* :: Python :: (3\.\d+)", line))]
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    assert workflow["jobs"]["tests"]["strategy"]["matrix"]["python"] == named
    below = f"3.{int(named[-1].partition('.')[2]) + 1}"
    assert package.metadata["Requires-Python"] == f"<{below},>={named[0]}"


def test_the_source_distribution_holds_what_it_takes_to_work_on_it(package):
    assert files_of("tests") <= files_of("tests", package.unpacked)
    for name in (".ci", ".github", "benchmarks", "docs", "packages", "plugins", "samples", "target_salesloft"):
        assert files_of(name, package.unpacked) == files_of(name)
    for name in (
        ".env.example",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "Dockerfile",
        "README.md",
        "SECURITY.md",
        "meltano.yml",
    ):
        assert (package.unpacked / name).is_file()


def test_a_file_that_happens_to_lie_in_a_clone_is_not_packed(package, tmp_path):
    clone = shutil.copytree(package.unpacked, tmp_path / "clone")
    for name in ("customers.csv", ".env", "state.json", "target_salesloft/.env"):
        (clone / name).write_text("s3cr3t", encoding="utf-8")
    packed = build(clone, "sdist", tmp_path / "dist")
    with tarfile.open(packed) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names == files_of("", package.unpacked)


@pytest.mark.parametrize(("told", "version"), [("", "0.1.0.dev0"), ("1.2.3", "1.2.3")])
def test_in_an_image_the_version_is_the_one_that_the_dockerfile_tells_or_the_fallback(package, tmp_path, told, version):
    source = shutil.copytree(package.unpacked, tmp_path / "source")
    (source / "PKG-INFO").unlink()
    (name,) = re.findall(r'(\w+)="\$VERSION"', (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    assert name.endswith("_FOR_TARGET_SALESLOFT"), "it would be the version of every package that is built there"
    built = build(source, "wheel", tmp_path / "dist", **{name: told})
    assert built.name == f"target_salesloft-{version}-py3-none-any.whl"


@pytest.fixture
def release_notes(tmp_path):
    """Ask for what the changelog says of a tag."""
    script = tmp_path / ".ci" / "release-notes"
    script.parent.mkdir()
    shutil.copy(ROOT / ".ci" / "release-notes", script)
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG, encoding="utf-8")
    return lambda tag: subprocess.run([script, tag], capture_output=True, text=True, check=False)


def test_the_notes_of_a_release_are_its_section_of_the_changelog(release_notes):
    assert release_notes("v1.1.0").stdout == "### Added\n\n- More.\n"
    assert release_notes("v1.0.0").stdout == "- All.\n"


def test_a_release_that_the_changelog_does_not_know_is_refused(release_notes):
    refused = release_notes("v1.2.0")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "CHANGELOG.md has no section [1.2.0]: give it one before the tag.\n"


@pytest.mark.parametrize("tag", ["1.1.0", "v1.1", "v1.1.0-rc1", "v1.1.0+local", "vUnreleased"])
def test_a_tag_that_is_not_a_version_is_refused(release_notes, tag):
    refused = release_notes(tag)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == f"{tag} is not the tag of a release: v1.2.3 or v1.2.3rc1.\n"


@pytest.mark.parametrize(
    ("tag", "before"), [("v1.2.3", False), ("v1.2.3a1", True), ("v1.2.3b2", True), ("v1.2.3rc10", True)]
)
def test_a_pre_release_is_published_as_one(tmp_path, tag, before):
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8"))
    (script,) = [step["run"] for step in workflow["jobs"]["github"]["steps"] if "run" in step]
    for name, content in {"gh": 'echo "$*" >called', ".ci/release-notes": "echo notes", "dist/x.whl": ""}.items():
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/sh\n{content}\n", encoding="utf-8")
        file.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "GITHUB_REF_NAME": tag}
    subprocess.run(["bash", "-e", "-c", script], cwd=tmp_path, env=environment, check=True)
    called = (tmp_path / "called").read_text(encoding="utf-8").split()
    assert called[:3] == ["release", "create", tag]
    assert called[-1] == "dist/x.whl"
    assert ("--prerelease" in called) is before
