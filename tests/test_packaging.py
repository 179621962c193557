"""What is installed: the manifest, the weights and their licences, and no Qt."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata, resources
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import napari_hydraseg

ROOT = Path(__file__).resolve().parent.parent
QT = {"pyqt5", "pyqt6", "pyside2", "pyside6", "napari", "pyqt5-qt5"}
pytestmark = pytest.mark.timeout(600)  # three builds, with the weights in each


def build(kind: str, source: Path, target: Path) -> Path:
    """Build a wheel or sdist with what is installed here: no network needed."""
    options = [f"--{kind}", "--no-isolation", "--outdir", str(target)]
    done = subprocess.run(
        [sys.executable, "-m", "build", *options, str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (made,) = target.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return made


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Copy what git tracks, so that a build leaves nothing in the working tree."""
    target = tmp_path_factory.mktemp("tree")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        source, copy = ROOT / name, target / name
        if source.is_symlink() or source.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            if source.is_symlink():
                copy.symlink_to(source.readlink())
            else:
                copy.write_bytes(source.read_bytes())
    return target


@pytest.fixture(scope="module")
def wheel(tree, tmp_path_factory):
    return build("wheel", tree, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tree, tmp_path_factory):
    return build("sdist", tree, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel_of_sdist(sdist, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (unpacked,) = folder.iterdir()
    return build("wheel", unpacked, tmp_path_factory.mktemp("second"))


@pytest.fixture(params=["wheel", "wheel_of_sdist"])
def any_wheel(request):
    """A wheel built from the tree, and one built from the sdist."""
    with zipfile.ZipFile(request.getfixturevalue(request.param)) as archive:
        yield archive


def bundled() -> dict[str, Path]:
    """List the manifest and the weight files of the tree, by their place in a wheel."""
    files = [ROOT / "napari.yaml", *(ROOT / "weights").glob("*")]
    return {
        f"napari_hydraseg/{path.relative_to(ROOT).as_posix()}": path for path in files
    }


def test_the_tree_has_a_model_and_a_card_for_each():
    models = sorted((ROOT / "weights").glob("*.safetensors"))
    assert models
    assert all(model.with_suffix(".md").is_file() for model in models)


def test_no_card_names_a_folder_of_ours():
    pages = sorted((ROOT / "weights").glob("*.md"))
    assert pages
    for page in pages:
        lines = page.read_text("utf-8").splitlines()
        said = [line.removeprefix("* Data: ") for line in lines if "* Data:" in line]
        assert not [path for path in said if path.startswith(("/", "~", "."))]


def test_a_wheel_carries_manifest_weights_and_cards(any_wheel):
    for name, path in bundled().items():
        assert any_wheel.read(name) == path.read_bytes(), name


def test_a_wheel_carries_the_report_template_and_the_types(any_wheel):
    names = any_wheel.namelist()
    assert "napari_hydraseg/py.typed" in names
    templates = (ROOT / "src/napari_hydraseg/core").glob("*.j2")
    assert {f"napari_hydraseg/core/{path.name}" for path in templates} <= set(names)


def test_a_wheel_carries_no_tests_and_no_scans(any_wheel):
    roots = {name.partition("/")[0] for name in any_wheel.namelist()}
    assert {root for root in roots if not root.endswith(".dist-info")} == {
        "napari_hydraseg"
    }
    assert not [name for name in any_wheel.namelist() if name.endswith((".nii.gz",))]


def test_a_wheel_states_every_licence_it_carries(any_wheel):
    (name,) = [n for n in any_wheel.namelist() if n.endswith(".dist-info/METADATA")]
    text = any_wheel.read(name).decode()
    licences = (
        "BSD-3-Clause AND CC-BY-SA-4.0 AND CC-BY-NC-SA-4.0 AND CC-BY-4.0 AND CC-BY-3.0"
    )
    assert f"License-Expression: {licences}\n" in text
    assert "License-File: LICENSE\n" in text
    assert "License-File: weights/README.md\n" in text
    assert "Classifier: Framework :: napari\n" in text


def test_a_wheel_is_small_enough_to_be_shared(wheel):
    assert wheel.stat().st_size < 60e6


def test_an_sdist_holds_files_and_no_links(sdist):
    with tarfile.open(sdist) as archive:
        assert not [member.name for member in archive if member.issym()]


def test_this_install_finds_manifest_and_weights():
    folder = resources.files(napari_hydraseg)
    assert (folder / "napari.yaml").is_file()
    weights = folder / "weights"
    models = [path for path in weights.iterdir() if path.name.endswith(".safetensors")]
    assert models
    assert (weights / "README.md").is_file()


def test_this_install_offers_the_command_and_the_plugin():
    points = metadata.distribution("napari-hydraseg").entry_points
    found = {(point.group, point.name): point.value for point in points}
    assert found == {
        ("console_scripts", "hydraseg"): "napari_hydraseg.cli:main",
        ("napari.manifest", "napari-hydraseg"): "napari_hydraseg:napari.yaml",
    }


def test_napari_discovers_the_plugin():
    code = (
        "from npe2 import PluginManager\n"
        "manager = PluginManager(); manager.discover()\n"
        "print(manager.get_manifest('napari-hydraseg').display_name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "HydraSeg", done.stderr


def test_the_manifest_is_valid_and_its_commands_exist():
    done = subprocess.run(
        [sys.executable, "-m", "npe2", "validate", "--imports", "napari-hydraseg"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_base_names_no_qt_binding_and_no_napari():
    base = [
        Requirement(text)
        for text in metadata.requires("napari-hydraseg")
        if "extra ==" not in text
    ]
    assert base
    assert not {requirement.name.lower() for requirement in base} & QT


def test_the_version_is_one():
    assert metadata.version("napari-hydraseg") == napari_hydraseg.__version__
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## {napari_hydraseg.__version__}" in changes
