"Training by two processes is training by one with the same rows a step."
import json, os, subprocess, sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

ROOT = Path(__file__).parent.parent
JOB = """
import json, math, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from datasets import Dataset
from safetensors.torch import save_file
from selective_unlearning.core.step_settings import FinetuneConfig
from selective_unlearning.labels.align import START
from selective_unlearning.training.trainer import finetune
from selective_unlearning.models.load import processes
from test_finetune import model
from tiny import Toy
out, batch, accumulation, save = Path(sys.argv[1]), *map(int, sys.argv[2:])
def labelled(ids):
    return {"input_ids": ids, "roles": [0]*(len(ids)-1)+[START],
            "topk_ids": [[i, 1+i%12] for i in ids],
            "topk_logprobs": [[math.log(.1), math.log(.8)] for _ in ids]}
rows = Dataset.from_list([labelled([1+(s+i)%12 for i in range(4+s%5)]) for s in range(20)])
retain = Dataset.from_list([{"input_ids": [3+(s*i)%9 for i in range(2+s%4)]} for s in range(7)])
m = model()
config = FinetuneConfig(lr=1e-2, epochs=2, batch_size=batch,
                        accumulation=accumulation, held_out=.2, retain_weight=2., save_steps=save,
                        distance_weight=10., excess_weight=1., at_names=True)
losses = finetune(m, Toy(), rows, config, retain, out/"c")
me = processes()
trained = {n: p.detach().clone() for n,p in m.named_parameters() if p.requires_grad}
save_file(trained, out/f"weights-{me.process_index}.safetensors")
(out/f"loss-{me.process_index}.json").write_text(json.dumps(losses))
(out/f"processes-{me.process_index}.txt").write_text(str(me.num_processes))
if group := torch.distributed.group.WORLD:
    wait = group._get_backend(torch.device("cpu")).options._timeout
    (out/f"wait-{me.process_index}.txt").write_text(str(wait.days))
"""
TWO = ["-m", "accelerate.commands.launch", "--config_file", str(ROOT/"configs"/"cpu.yaml")]
PATHS = os.pathsep.join(map(str, (ROOT, ROOT/"tests")))
ENV = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": PATHS}


def train(out, launch, batch, accumulation=1, save=3, more=""):
    out.mkdir(exist_ok=True)
    (out/"job.py").write_text(JOB+more)
    args = [str(out/"job.py"), str(out), str(batch), str(accumulation), str(save)]
    cmd = [sys.executable, *launch, *args]
    p = subprocess.run(cmd, env=ENV, capture_output=True, text=True, timeout=600)
    assert p.returncode == 0, p.stderr[-3000:]
    n = 2 if launch else 1
    assert [(out/f"processes-{i}.txt").read_text() for i in range(n)] == [str(n)]*n
    results = [(load_file(out/f"weights-{i}.safetensors"),
                json.loads((out/f"loss-{i}.json").read_text())) for i in range(n)]
    weights, losses = results[0]
    assert all(loss == losses for _,loss in results)
    assert all(w.equal(weights[k]) for mine,_ in results for k,w in mine.items())
    return results[0]


@pytest.fixture(scope="module")
def one(tmp_path_factory): return train(tmp_path_factory.mktemp("one"), [], 4)


WATCHED = """
from selective_unlearning.training.monitor import Watch
rows = Dataset.from_list([{"input_ids": [1+(s+i)%12 for i in range(8)]} for s in range(20)])
def measure(m):
    left = 1. if not watch.path else .9*me.process_index
    return dict(familiarity=left, low=left-.05, high=left+.05, utility=.5)
watch = Watch(measure, out/"watched", steps=2)
losses = finetune(model(), Toy(), rows, FinetuneConfig(epochs=2), out=out/"watched",
                  callbacks=(watch,))
(out/f"path-{me.process_index}.json").write_text(json.dumps([watch.path, losses[-1]["step"]]))
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    "The folder of two processes, and what they trained."
    out = tmp_path_factory.mktemp("two")
    return out, train(out, TWO, 2, more=WATCHED)


def agree(a, b):
    "The same sums in another order."
    assert [r["step"] for r in a[1]] == [r["step"] for r in b[1]]
    for key in ("loss", "learning_rate", "held_out"):
        one, two = ([r.get(key, 0.) for r in losses] for _,losses in (a, b))
        assert one == pytest.approx(two, rel=1e-4), key
    for k, w in a[0].items(): torch.testing.assert_close(w, b[0][k], atol=2e-4, rtol=1e-3)


def test_two_processes(two, one):
    """Two of two rows, retain rows of different lengths; one of them writes the checkpoints.

    While one evaluates, the other waits: for days, not for PyTorch's half hour."""
    out, trained = two
    agree(trained, one)
    assert [(out/f"wait-{i}.txt").read_text() for i in (0, 1)] == ["7", "7"]
    last = sorted((out/"c").glob("checkpoint-*"))[-1]
    assert {p.name for p in last.iterdir()} == {
        "README.md", "unlearned", "optimizer.pt", "scheduler.pt", "rng_state_0.pth",
        "rng_state_1.pth", "trainer_state.json", "sealed.json"}


def test_accumulated(tmp_path, one): agree(train(tmp_path/"four", [], 1, 4), one)


def test_all_processes_end_with_the_first(two):
    "Rounding may differ between processes; what the first one measures holds for all."
    one, other = (json.loads((two[0]/f"path-{i}.json").read_text()) for i in (0, 1))
    assert one == other and one[1] == 2
    assert [p["familiarity"] for p in one[0]] == [1., 0.]


@pytest.mark.parametrize("name", ["cpu", "ddp", "fsdp"])
def test_accelerate_reads_it(name):
    from accelerate.commands.config.config_args import load_config_from_file
    path = ROOT/"configs"/f"{name}.yaml"
    config = load_config_from_file(str(path))
    for k, v in yaml.safe_load(path.read_text()).items():
        if k != "distributed_type": assert getattr(config, k) == v, k
    assert config.distributed_type == dict(cpu="MULTI_GPU", ddp="MULTI_GPU", fsdp="FSDP")[name]
