"What is said on the way, by whom it is shown, and how much of it."
import os, subprocess, sys

import pytest

import tree
from selective_unlearning.job.command import main
from selective_unlearning.job.settings import to_yaml
from tiny import settings

ENV = os.environ | {"PYTHONPATH": str(tree.ROOT)}


def program(code, *argv):
    "What a program writes to standard error."
    done = subprocess.run([sys.executable, "-c", code, *map(str, argv)], env=ENV,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()


READS = """
import logging, sys
{before}
from selective_unlearning.corpus.readers import read_corpus
read_corpus(sys.argv[1])
logging.getLogger("selective_unlearning").info("read")
print(logging.getLogger("selective_unlearning").handlers)
"""


@pytest.mark.parametrize("before, mark, info", [
    ("", "", False),                                       # Python itself shows warnings
    ("logging.basicConfig(format='APP %(message)s', level='INFO')", "APP ", True),
    ("import builtins; builtins.__IPYTHON__ = True", "  warning: ", True),
    ("logging.getLogger('selective_unlearning').addHandler(logging.NullHandler())", None, False),
], ids=["no log", "a log of its own", "notebook", "switched off"])
def test_a_library_leaves_the_log_to_the_program(tmp_path, before, mark, info):
    "A warning is one line without a place in the source, once, wherever the program wants it."
    (tmp_path/"a.txt").write_text("One owl.")
    (tmp_path/"film.mp4").write_bytes(b"\xff")
    said = program(READS.format(before=before), tmp_path)
    warned = [line for line in said if "film.mp4" in line]
    start = f"{mark}{tmp_path}: passed over: no reader for film.mp4"
    assert [line.startswith(start) for line in warned] == ([] if mark is None else [True])
    assert any(line.endswith("read") for line in said) == info


def test_a_program_without_a_log_sees_a_run(tmp_path):
    "As in a terminal: the front door is called for its work, not as a part of something else."
    (tmp_path/"job.yaml").write_text(to_yaml(settings(tmp_path)))
    code = ("import sys; from selective_unlearning.job.run import run, configure\n"
            "from selective_unlearning.job.settings import read_config\n"
            "run(read_config(sys.argv[1]), sys.argv[2], 'corpus')")
    said = program(code, tmp_path/"job.yaml", tmp_path/"run")
    assert said == [f"[1/10] corpus: writes {tmp_path/'run'/'01-corpus'}"]


@pytest.mark.parametrize("flag", ["--quiet", "--verbose"])
def test_how_much_is_said(tmp_path, capsys, flag):
    (tmp_path/"job.yaml").write_text(to_yaml(settings(tmp_path)))
    capsys.readouterr()                                    # the tiny model was saved
    argv = ["--config", f"{tmp_path}/job.yaml", "--out", f"{tmp_path}/run", "--until", "corpus"]
    assert main(["run", *argv, flag]) == 0
    out, err = capsys.readouterr()
    assert out == f"{tmp_path}/run/01-corpus\n"
    if flag == "--quiet": assert err == ""
    else:
        assert f"  corpus: {tmp_path/'book.txt'}\n" in err and "\n  kind: soft\n" in err
        assert "[1/10] corpus: writes" in err and "\n  corpus took " in err
    assert main(["report", "--run", f"{tmp_path}/run", flag]) == 1
    assert "dictionary is missing" in capsys.readouterr().err
    assert main(["run", *argv]) == 0                       # the level is that of one command
    assert capsys.readouterr().err == "[1/10] corpus: done before\n"
