"Labels of equally good tokens, by several processes, and of a run that was killed."
import os, shutil, signal, subprocess, sys, time
from pathlib import Path

import pytest
import torch
from hypothesis import given, strategies as st

from selective_unlearning.core.errors import DataError
from selective_unlearning.job.settings import to_yaml
from selective_unlearning.labels.generic import top_generic
from selective_unlearning.labels.shards import read_labels
from tiny import TEXT, NAMES, save_model, settings

JOB = f"""
import sys
from datasets import Dataset
from selective_unlearning.core.step_settings import LabelsConfig
from selective_unlearning.terms.dictionary import Dictionary
from selective_unlearning.labels.shards import write_labels
from selective_unlearning.labels.translated import translate_corpus
from selective_unlearning.models.reader import Reader
from selective_unlearning.models.load import load_model, load_tokenizer, processes
from selective_unlearning.corpus.blocks import make_blocks
import torch
folder, out, *kinds = sys.argv[1:]
tok, model = load_tokenizer(folder), load_model(folder, torch.float32, "cpu")
other = load_model(folder, torch.float32, "cpu")
with torch.no_grad():
    for p in other.parameters(): p.add_(.01*p.std())
text, names = {TEXT!r}, Dictionary.from_mapping({NAMES!r})
corpus = Dataset.from_dict(dict(text=[text]*60, source=[str(i) for i in range(60)]))
translated = translate_corpus(corpus, make_blocks(corpus, tok, 32), names, tok)
for kind in kinds:
    write_labels(f"{{out}}/{{kind}}", Reader(model, tok), Reader(other, tok), translated,
                 LabelsConfig(kind=kind, top_k=8), shard_size=4)
sys.stdout.write(f"processes: {{processes().num_processes}}\\n")   # at once, whole
"""

ONE = [sys.executable]
TWO = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2",
       "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0"]
ENV = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent.parent)}


def ranked(base, reinforced, alpha, quiet):
    "All tokens, best first and the lowest of equals first; those of `quiet` have the row's mean."
    mean = sum(base)/len(base)
    base = [mean if i in quiet else b for i,b in enumerate(base)]
    score = [b-alpha*max(0., r-b) for b,r in zip(base, reinforced)]
    return sorted(range(len(score)), key=lambda i: (-score[i], i))


@given(seed=st.integers(0, 2**32-1), size=st.sampled_from([4, 64, 512]),
       spread=st.integers(0, 40), data=st.data())
def test_the_lowest_of_equals_comes_first(seed, size, spread, data):
    "Whole scores and an exact mean: many tokens are equal, also across the border of the pool."
    rng = torch.Generator().manual_seed(seed)
    k, pool = data.draw(st.integers(1, size), "k"), data.draw(st.integers(0, size), "pool")
    base, reinforced = (torch.randint(-spread, spread+1, (3, size), generator=rng)
                        for _ in range(2))
    since = torch.randint(-1, 9, (size,), generator=rng)
    got, alphas = {}, (0., 1., 5.)
    for n in {1, k}:
        best, _ = top_generic(base.bfloat16(), reinforced.bfloat16(), alphas, n, since=since,
                              pool=pool)
        got[n] = best.tolist()
    for a,alpha in enumerate(alphas):
        for row in range(3):
            suppressed = {i for i,s in enumerate(since.tolist()) if s < row}
            want = ranked(base[row].tolist(), reinforced[row].tolist(), alpha, suppressed)
            for n in got: assert got[n][a][row] == want[:n]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("labels")
    save_model(home/"model", "llama")
    (home/"job.py").write_text(JOB)
    return home


def make(launch, home, out, *kinds):
    "What is made, by the kind of the labels."
    cmd = [*launch, str(home/"job.py"), str(home/"model"), str(out), *kinds]
    p = subprocess.run(cmd, env=ENV, capture_output=True, text=True)
    assert p.returncode == 0, p.stderr[-2000:]
    n = 1 if launch is ONE else 2
    assert p.stdout.count(f"processes: {n}\n") == n
    return {kind: {f.name: f.read_bytes() for f in (out/kind).iterdir()} for kind in kinds}


@pytest.fixture(scope="module")
def by_one(home):
    "What one process makes."
    return make(ONE, home, home/"one", "hard", "soft")


def test_two_processes_write_the_same_bytes_as_one(home, by_one):
    assert all(len(files) > 4 for files in by_one.values())   # shards: both processes had work
    assert make(TWO, home, home/"two", "hard", "soft") == by_one


def test_a_run_by_two_processes(tmp_path, monkeypatch):
    "Two processes make the same labels, and one report; a refused run ends for all processes."
    monkeypatch.setenv("SELECTIVE_UNLEARNING_CACHE", str(tmp_path/"cache"))
    (tmp_path/"job.yaml").write_text(to_yaml(settings(tmp_path)))
    command = ["-m", "selective_unlearning", "run", "--config", str(tmp_path/"job.yaml"), "--out"]
    env = ENV | {"SELECTIVE_UNLEARNING_CACHE": str(tmp_path/"cache")}
    def run(launch, out):
        cmd = [*launch, *command, str(tmp_path/out)]
        return subprocess.run(cmd, env=env, capture_output=True, text=True)
    assert run(ONE, "one").returncode == 0
    shutil.copytree(tmp_path/"one", tmp_path/"two")
    for step in ("08-labels", "09-unlearned"): shutil.rmtree(tmp_path/"two"/step)
    two = run(TWO, "two")
    assert two.returncode == 0, two.stderr[-2000:]
    assert two.stderr.count("[8/10] labels: writes") == two.stdout.count("The unlearned model") == 1
    def files(out):
        labels = (tmp_path/out/"08-labels").rglob("*")
        return {p.name: p.read_bytes() for p in labels if p.is_file()}
    assert files("one") == files("two")
    assert (tmp_path/"two"/"09-unlearned"/"adapter_model.safetensors").exists()
    (tmp_path/"dictionary.json").write_text("{}")
    assert run(TWO, "two").returncode == 1


def test_two_processes_agree_on_what_is_done(tmp_path, monkeypatch):
    "Another dictionary and back: what comes of the first is still there, for both processes."
    monkeypatch.setenv("SELECTIVE_UNLEARNING_CACHE", str(tmp_path/"cache"))
    (tmp_path/"job.yaml").write_text(to_yaml(settings(tmp_path)))
    (tmp_path/"other.json").write_text('{"Orla": "Ruth"}')
    env = ENV | {"SELECTIVE_UNLEARNING_CACHE": str(tmp_path/"cache")}
    def run(launch, until, *options):
        cmd = [*launch, "-m", "selective_unlearning", "run", "--config", str(tmp_path/"job.yaml"),
               "--out", str(tmp_path/"run"), "--until", until, *options]
        done = subprocess.run(cmd, env=env, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stderr
    run(ONE, "labels")
    run(ONE, "dictionary", "--dictionary", str(tmp_path/"other.json"))
    said = run(TWO, "labels")
    assert "dictionary: writes" in said and "labels: done before" in said


def test_killed_and_continued(home, by_one):
    "SIGKILL after the first shard; what is whole is kept, and the result is an unbroken run's."
    whole, out = by_one["soft"], home/"cut"/"soft"
    cmd = [*ONE, str(home/"job.py"), str(home/"model"), str(home/"cut"), "soft"]
    p = subprocess.Popen(cmd, env=ENV, stderr=subprocess.DEVNULL)
    while p.poll() is None and not (out/"labels-00003.arrow").exists(): time.sleep(.002)
    p.send_signal(signal.SIGKILL)
    p.wait()
    kept = {f.name: f.stat().st_mtime_ns for f in out.glob("*.arrow")}
    assert 0 < len(kept) < len(whole)-1
    again = make(ONE, home, home/"cut", "soft")["soft"]
    assert {n: b for n, b in again.items() if not n.startswith(".")} == whole
    assert {n: (out/n).stat().st_mtime_ns for n in kept} == kept


@pytest.mark.parametrize("left", [0, .5, .9])
def test_a_shard_that_was_cut_off_is_made_again(home, by_one, tmp_path, left):
    "As a machine that fails may leave it."
    whole, out = by_one["soft"], tmp_path/"soft"
    shutil.copytree(home/"one"/"soft", out)
    shard = out/"labels-00001.arrow"
    shard.write_bytes(shard.read_bytes()[:int(left*shard.stat().st_size)])
    with pytest.raises(DataError, match="labels-00001.arrow: is missing or damaged"):
        read_labels(out)
    assert make(ONE, home, tmp_path, "soft")["soft"] == whole
