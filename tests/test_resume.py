"""A training that is stopped by force, by damage or by a full disk.

It ends as one that was never stopped, to the bit."""
import errno, multiprocessing, os, random, re, resource, subprocess, time
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from selective_unlearning.training.checkpoints import flaw, mend, newest, seal
from selective_unlearning.core.files import read_json, write_json
from selective_unlearning.core.step_settings import FinetuneConfig
from selective_unlearning.labels.align import START
from selective_unlearning.training.trainer import finetune
from selective_unlearning.models.adapters import add_adapter
from tiny import Toy, llama

SMALL = dict(lr=1e-2, retain_weight=1.)


class Now(TrainerCallback):
    "Calls `act(step)` when training begins, with step 0, and after each checkpoint."
    def __init__(self, act): self.act = act
    def on_train_begin(self, args, state, control, **kw): self.act(0)
    def on_save(self, args, state, control, **kw):
        control.should_training_stop |= bool(self.act(state.global_step))


def model(rank):
    m = llama(max_position_embeddings=32)
    return add_adapter(m, "unlearned", rank, first_layer=0.) if rank else m


COUNTING = [{"input_ids": [1+(s+i)%12 for i in range(8)], "roles": [0]*7+[START]}
            for s in range(12)]
NOISE = [{"input_ids": random.Random(s).choices(range(1, 16), k=8)} for s in range(16)]


def train(out, config, *acts, rows=COUNTING, rank=4):
    "Weights and history of a small training that goes on in `out`."
    rows = Dataset.from_list(rows)
    retain = Dataset.from_list([{"input_ids": [3, 3, 3+s]} for s in range(5)])
    m = model(rank)
    losses = finetune(m, Toy(), rows, config, retain, out, callbacks=[Now(a) for a in acts])
    return {n: p.detach().clone() for n,p in m.named_parameters() if p.requires_grad}, losses


def same(a, b):
    assert a[1] == b[1]
    assert a[0].keys() == b[0].keys()
    assert all(p.equal(b[0][n]) for n,p in a[0].items())


@pytest.fixture(autouse=True)
def one_thread():
    "As many here as in the processes that are killed: the order of a sum is part of its value."
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# --- SIGKILL ----------------------------------------------------------------------------------

def child(home, config, begun, rank):
    torch.set_num_threads(1)
    def stop(step):
        if not step: begun.set()
    weights, losses = train(home/"checkpoints", config, stop, rank=rank)
    save_file(weights, home/"weights.safetensors")
    write_json(home/"loss.json", losses)


def killed(home, config, kills, seconds, seed, rank):
    "Start the training, kill it at a random moment, and again, `kills` times; then let it end."
    context, rng, done = multiprocessing.get_context("forkserver"), random.Random(seed), 0
    context.set_forkserver_preload(["selective_unlearning.training.trainer", "peft"])
    home.mkdir()
    while True:
        begun = context.Event()
        p = context.Process(target=child, args=(home, config, begun, rank))
        p.start()
        assert begun.wait(120)
        if done < kills:
            time.sleep(rng.uniform(0, 1.5*seconds/kills))
            p.kill()
        p.join()
        if p.exitcode == 0:
            return done, (load_file(home/"weights.safetensors"), read_json(home/"loss.json"))
        assert p.exitcode == -9
        done += 1


def kill_and_compare(tmp_path, kills, config, rank=4):
    times = []
    whole = train(tmp_path/"whole", config, lambda step: times.append(time.time()), rank=rank)
    total, seed = 0, 0
    while total < kills:                   # another training, if one ended before enough kills
        done, cut = killed(tmp_path/f"cut{seed}", config, kills-total, times[-1]-times[0], seed,
                           rank)
        same(cut, whole)
        total, seed = total+done, seed+1
    assert total == kills


@pytest.mark.parametrize("rank, held_out", [(0, 0.), (4, .2)],
                         ids=["all weights", "adapter, held out"])
def test_killed_at_random(tmp_path, rank, held_out):
    config = FinetuneConfig(**SMALL, epochs=5, save_steps=3, held_out=held_out)
    kill_and_compare(tmp_path, 2, config, rank)


@pytest.mark.slow
@pytest.mark.parametrize("accumulation", [1, 3])
def test_killed_twenty_times(tmp_path, accumulation):
    config = FinetuneConfig(**SMALL, epochs=20, save_steps=2, accumulation=accumulation)
    kill_and_compare(tmp_path, 20, config)


# --- damage -----------------------------------------------------------------------------------

def cut(p): p.write_bytes(p.read_bytes()[:-20])
def flip(p): p.write_bytes(p.read_bytes()[:-1]+b"\x01")
def lose(p): p.unlink()
def add(p): p.write_text("x")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    torch.set_num_threads(1)
    return train(tmp_path_factory.mktemp("whole")/"c", CONFIG)


CONFIG = FinetuneConfig(**SMALL, epochs=2, save_steps=5)
CHANGED = "{} was changed since it was written"


@pytest.mark.parametrize("damage, name, why", [
    (cut, "unlearned/adapter_model.safetensors", CHANGED),
    (flip, "unlearned/adapter_model.safetensors", CHANGED), (cut, "optimizer.pt", CHANGED),
    (cut, "trainer_state.json", CHANGED), (flip, "scheduler.pt", CHANGED),
    (lose, "rng_state.pth", "{} is missing"), (add, "pytorch_model.bin", CHANGED),
    (lose, "sealed.json", "was cut off"), (cut, "sealed.json", "was cut off")])
def test_damaged_checkpoint(tmp_path, caplog, whole, damage, name, why):
    "It is named, and the one before it is used."
    train(tmp_path, CONFIG, lambda step: step == 15)
    damage(tmp_path/"checkpoint-15"/name)
    used = []
    warning = f"checkpoint-15: {why.format(name)}.* training goes on from checkpoint-10"
    again = train(tmp_path, CONFIG, used.append)
    assert re.search(warning, caplog.text)
    assert used[1] == 15                                   # the first one that was written anew
    same(again, whole)


def test_all_damaged(tmp_path, caplog, whole):
    train(tmp_path, CONFIG, lambda step: step == 10)
    for n in (5, 10): cut(tmp_path/f"checkpoint-{n}"/"optimizer.pt")
    again = train(tmp_path, CONFIG)
    assert re.search("optimizer.pt was changed.* training starts over", caplog.text)
    same(again, whole)


def test_damaged_best(tmp_path, caplog):
    "Where the best weights so far are lost, training goes back to before them."
    config = FinetuneConfig(epochs=20, lr=3e-3, batch_size=4, hinge_weight=0.,
                            held_out=.25, patience=5, save_steps=2)
    whole = train(tmp_path/"whole", config, rows=NOISE, rank=0)
    best = min((r for r in whole[1] if "held_out" in r), key=lambda r: r["held_out"])["step"]
    train(tmp_path/"c", config, lambda step: step == best+6, rows=NOISE, rank=0)
    names = sorted(f"checkpoint-{best+n}" for n in (0, 4, 6))
    assert sorted(p.name for p in (tmp_path/"c").glob("checkpoint-*")) == names
    cut(tmp_path/"c"/f"checkpoint-{best}"/"optimizer.pt")
    warning = f"the best weights before it are lost: checkpoint-{best} optimizer.pt"
    again = train(tmp_path/"c", config, rows=NOISE, rank=0)
    assert warning in caplog.text
    same(again, whole)


class Trap:
    "What makes a folder when it is unpickled."
    def __init__(self, path): self.path = path
    def __reduce__(self): return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_nothing_is_unpickled(tmp_path, name):
    "A folder from a stranger, with a seal that fits: its code does not run."
    train(tmp_path/"c", CONFIG, lambda step: step == 5)
    last = newest(tmp_path/"c")
    of = read_json(last/"sealed.json")["of"]
    assert not (last/"training_args.bin").exists()
    torch.save(Trap(tmp_path/"ran"), last/name)
    (last/"sealed.json").unlink()
    seal(last, of)
    with pytest.raises(Exception, match="Weights only load failed"): train(tmp_path/"c", CONFIG)
    assert not (tmp_path/"ran").exists()


# --- a full disk ------------------------------------------------------------------------------

def fails_when_full(out):
    with pytest.raises(OSError) as e: train(out, CONFIG)
    assert e.value.errno == errno.ENOSPC
    assert "the disk is full; the checkpoint before this one is whole" in str(e.value)
    assert "checkpoint-" in e.value.filename
    last = newest(out)
    assert last and not flaw(last) and last.name != Path(e.value.filename).name


def test_no_larger_file_can_be_written(tmp_path, whole):
    "Whatever the trainer writes after its first checkpoint fails, by the system's own limit."
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    def limit(step):
        if step == 5: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(OSError) as e: train(tmp_path, CONFIG, limit)
    finally: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "the checkpoint before this one is whole" in str(e.value)
    assert "checkpoint-10" in e.value.filename
    training = read_json(tmp_path/"checkpoint-5"/"sealed.json")["of"]
    assert mend(tmp_path, training) == tmp_path/"checkpoint-5"
    same(train(tmp_path, CONFIG), whole)


def test_disk_of_a_few_hundred_kilobytes(tmp_path, whole):
    "A real file system that fills up; made larger, the same training goes on."
    def mount(*how):
        cmd = ["mount", "-t", "tmpfs", "-o", *how, "none", str(tmp_path)]
        return subprocess.run(cmd, capture_output=True).returncode == 0
    size = sum(p.stat().st_size for p in last_files(tmp_path.with_name(f"{tmp_path.name}-size")))
    if not mount(f"size={int(1.7*size)}"): pytest.skip("mounting needs root")
    try:
        fails_when_full(tmp_path/"c")
        assert mount("remount,size=100m")
        same(train(tmp_path/"c", CONFIG), whole)
    finally: subprocess.run(["umount", str(tmp_path)], check=True)


def last_files(out):
    train(out, CONFIG, lambda step: step == 5)
    return [p for p in newest(out).rglob("*") if p.is_file()]
