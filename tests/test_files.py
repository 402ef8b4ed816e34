"Files that come from outside and files that are made: who may read them, where they stand, what cannot be read."
import os, stat

import pytest

from selective_unlearning.config import write_atomic
from selective_unlearning.export import export_run
from selective_unlearning.pipeline import run
from tiny import settings


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    "A cache of our own, which a run writes to."
    monkeypatch.setenv("SELECTIVE_UNLEARNING_CACHE", str(tmp_path/"cache"))


# --- who may read them ------------------------------------------------------------------------

@pytest.fixture
def umask():
    "Sets the umask until the test ends."
    old = os.umask(0o022)
    yield os.umask
    os.umask(old)


def mode(path): return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mask", [0o077, 0o022])
def test_a_run_is_as_open_as_the_umask(tmp_path, umask, mask):
    "Every file and folder of a run, its cache and its exports: no more than the umask allows, and no less."
    config = settings(tmp_path)
    umask(mask)
    run(config, tmp_path/"run")
    for merged in (False, True): export_run(tmp_path/"run", tmp_path/f"export-{merged}", merged)
    made = [p for name in ("run", "cache", "export-False", "export-True") for p in (tmp_path/name, *(tmp_path/name).rglob("*"))]
    assert len(made) > 50
    wanted = lambda p: (0o777 if p.is_dir() else 0o666) & ~mask
    assert {str(p.relative_to(tmp_path)): oct(mode(p)) for p in made if mode(p) != wanted(p)} == {}


@pytest.mark.parametrize("before", [0o600, 0o640, 0o444, 0o666])
def test_a_file_that_is_saved_again_keeps_its_mode(tmp_path, umask, before):
    umask(0o027)
    (tmp_path/"d.json").write_text("old")
    (tmp_path/"d.json").chmod(before)
    write_atomic(tmp_path/"d.json", "new")
    assert ((tmp_path/"d.json").read_text(), mode(tmp_path/"d.json")) == ("new", before)


def test_never_wider_on_the_way(tmp_path, umask, monkeypatch):
    "The hidden file that becomes a private one is private before anything is written to it."
    (tmp_path/"d.json").write_text("old")
    (tmp_path/"d.json").chmod(0o600)
    real, seen = os.open, []
    def watched(*args, **kwargs):
        fd = real(*args, **kwargs)
        seen.append(stat.S_IMODE(os.fstat(fd).st_mode))
        return fd
    monkeypatch.setattr(os, "open", watched)
    write_atomic(tmp_path/"d.json", "new")
    assert seen == [0o600]


def test_a_link_stays_a_link(tmp_path):
    "To a file, to one that is not there yet, and by way of a linked folder."
    (tmp_path/"there").mkdir()
    (tmp_path/"there"/"old.json").write_text("old")
    (tmp_path/"folder").symlink_to("there")
    for name in ("old", "none"): (tmp_path/f"{name}.json").symlink_to(f"there/{name}.json")
    for name in ("old", "none"):
        write_atomic(tmp_path/f"{name}.json", "new")
        assert (tmp_path/f"{name}.json").is_symlink() and (tmp_path/"there"/f"{name}.json").read_text() == "new"
    write_atomic(tmp_path/"folder"/"more.json", "new")
    assert sorted(p.name for p in (tmp_path/"there").iterdir()) == ["more.json", "none.json", "old.json"]


def test_a_pipe_is_not_replaced(tmp_path):
    "Nor is a device: renaming would put a file in its place."
    os.mkfifo(tmp_path/"pipe")
    (tmp_path/"link").symlink_to("pipe")
    for name in ("pipe", "link"):
        with pytest.raises(OSError, match=f"Not a regular file: '.*{name}'"): write_atomic(tmp_path/name, "x")
    assert stat.S_ISFIFO((tmp_path/"pipe").stat().st_mode) and len(list(tmp_path.iterdir())) == 2
