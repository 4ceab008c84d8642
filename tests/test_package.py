"""Wheels, source distributions and release notes."""

import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow

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
    """Build with the build system of the development environment, without a network."""
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
    # Not `tarfile`: newer Pythons require a filter, and older ones do not support it.
    subprocess.run(["tar", "-xzf", sdist, "-C", directory], check=True)
    (unpacked,) = directory.iterdir()
    wheel = build(unpacked, "wheel", tmp_path_factory.mktemp("wheel"))
    with zipfile.ZipFile(wheel) as archive:
        files = set(archive.namelist())
        (name,) = (name for name in files if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    return Package(wheel, sdist, unpacked, files, metadata)


def test_wheel_contains_exactly_the_package(package):
    metadata = {name for name in package.files if not name.startswith("target_salesloft/")}
    assert package.files - metadata == files_of("target_salesloft")
    assert {name.partition("/")[0] for name in metadata} == {f"{package.sdist.name.removesuffix('.tar.gz')}.dist-info"}


def test_license_is_included_and_the_sandbox_is_not_required(package):
    assert package.metadata["License-Expression"] == "Apache-2.0"
    assert package.metadata["License-File"] == "LICENSE"
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in package.files)
    requirements = package.metadata.get_all("Requires-Dist")
    assert [each for each in requirements if re.match("salesloft|starlette|uvicorn", each)] == []


def test_description_has_absolute_links_and_images_only(package):
    description = package.metadata.get_payload()
    links = re.findall(r"\]\(([^)]+)\)", description)
    assert len(links) > 10
    assert [each for each in links if not each.startswith("https://")] == []
    assert f"{package.metadata.get_all('Project-URL')[0].partition(', ')[2]}/raw/main/docs/images/run.svg" in links


def test_ci_runs_each_supported_python_version(package):
    classifiers = package.metadata.get_all("Classifier")
    versions = [found[1] for line in classifiers if (found := re.fullmatch(r".* :: Python :: (3\.\d+)", line))]
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    assert workflow["jobs"]["tests"]["strategy"]["matrix"]["python"] == versions
    assert package.metadata["Requires-Python"] == f">={versions[0]}"


def test_source_distribution_contains_tests_and_tools(package):
    assert files_of("tests") <= files_of("tests", package.unpacked)
    for name in (".ci", ".github", "benchmarks", "docs", "packages", "plugins", "samples", "target_salesloft"):
        assert files_of(name, package.unpacked) == files_of(name)
    for name in [
        ".env.example",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "Dockerfile",
        "README.md",
        "SECURITY.md",
        "meltano.yml",
    ]:
        assert (package.unpacked / name).is_file()


def test_untracked_file_is_not_packaged(package, tmp_path):
    clone = shutil.copytree(package.unpacked, tmp_path / "clone")
    for name in ("customers.csv", ".env", "state.json", "target_salesloft/.env"):
        (clone / name).write_text("s3cr3t", encoding="utf-8")
    packed = build(clone, "sdist", tmp_path / "dist")
    with tarfile.open(packed) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names == files_of("", package.unpacked)


@pytest.mark.parametrize(("version_variable", "version"), [("", "0.1.0.dev0"), ("1.2.3", "1.2.3")])
def test_image_has_the_version_of_the_build_argument_or_the_fallback(package, tmp_path, version_variable, version):
    source = shutil.copytree(package.unpacked, tmp_path / "source")
    (source / "PKG-INFO").unlink()
    (name,) = re.findall(r'(\w+)="\$VERSION"', (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    assert name.endswith("_FOR_TARGET_SALESLOFT"), "would set the version of every package that is built"
    built = build(source, "wheel", tmp_path / "dist", **{name: version_variable})
    assert built.name == f"target_salesloft-{version}-py3-none-any.whl"


@pytest.fixture
def release_notes(tmp_path):
    """Return a function that runs the script for a tag."""
    script = tmp_path / ".ci" / "release-notes"
    script.parent.mkdir()
    shutil.copy(ROOT / ".ci" / "release-notes", script)
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG, encoding="utf-8")
    return lambda tag: subprocess.run([script, tag], capture_output=True, text=True, check=False)


def test_release_notes_are_the_changelog_section_without_which_a_release_is_rejected(release_notes):
    assert release_notes("v1.1.0").stdout == "### Added\n\n- More.\n"
    assert release_notes("v1.0.0").stdout == "- All.\n"
    result = release_notes("v1.2.0")
    assert (result.returncode, result.stdout) == (1, "")
    assert "[1.2.0]" in result.stderr


@pytest.mark.parametrize("tag", ["1.1.0", "v1.1", "v1.1.0-rc1", "v1.1.0+local", "vUnreleased"])
def test_invalid_tag_is_rejected(release_notes, tag):
    result = release_notes(tag)
    assert (result.returncode, result.stdout) == (1, "")
    assert f"tag: {tag} " in result.stderr


@pytest.mark.parametrize(
    ("tag", "is_prerelease"), [("v1.2.3", False), ("v1.2.3a1", True), ("v1.2.3b2", True), ("v1.2.3rc10", True)]
)
def test_pre_release_is_published_as_one(tmp_path, tag, is_prerelease):
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
    assert ("--prerelease" in called) is is_prerelease
