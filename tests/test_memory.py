"A corpus may be larger than memory: ten times the text takes hardly more of it, in any step."
import json, os, random, re, subprocess, sys, threading
from pathlib import Path

import pytest

from selective_unlearning.job.manifest import STEPS
from selective_unlearning.job.run import run
from selective_unlearning.job.settings import configure
from tiny import TEXT, settings

DOCUMENT = 20_000  # characters
# What is freed goes back at once: what an allocator keeps for itself varies by 12 MB between runs.
STEADY = {"PYTHONHASHSEED": "0", "MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536",
          "MALLOC_TRIM_THRESHOLD_": "65536", "ARROW_DEFAULT_MEMORY_POOL": "system"}


def write_corpus(folder, megabytes):
    "Documents of random paragraphs. A megabyte has all the words that ten have."
    folder.mkdir()
    rng = random.Random(0)
    sentences = [f"{s.strip()}." for s in TEXT.replace("\n", " ").split(".") if s.strip()]
    for i in range(megabytes*1_000_000//DOCUMENT):
        paragraphs, size = [], 0
        while size < DOCUMENT:
            day = f" It was day {rng.randrange(1000)} of year {rng.randrange(1000)}."
            paragraphs.append(" ".join(rng.choices(sentences, k=8)) + day)
            size += len(paragraphs[-1])
        (folder/f"{i:05d}.txt").write_text("\n\n".join(paragraphs), encoding="utf-8")


def anonymous():
    "What this process holds of its own, in bytes, without files that are mapped into memory."
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"RssAnon:\s*(\d+) kB", status)[1])*1024


class Peak(threading.Thread):
    "The most memory that this process holds while it runs."
    def __init__(self):
        super().__init__(daemon=True)
        self.bytes, self.done = 0, threading.Event()

    def run(self):
        while not self.done.wait(.02): self.bytes = max(self.bytes, anonymous())


def growth(home, megabytes):
    "By how much the memory has grown at most when each step ends, in bytes."
    small = {"block_size": 24, "train.batch_size": 32, "unlearn.epochs": 1, "labels.top_k": 4,
             "train.save_steps": 1000}
    config = settings(home/"small", "gpt2", force=True, **small)
    run(config, home/"warm-up")
    write_corpus(home/"big", megabytes)
    big = configure(config, {"corpus": str(home/"big")})
    before, peak, grown = anonymous(), Peak(), {}
    peak.start()
    for step in STEPS:
        run(big, home/"run", until=step)
        grown[step] = peak.bytes-before
    run(big, home/"run")
    return grown | dict(report=peak.bytes-before)


def grown(home, megabytes):
    "The same in a process of its own."
    home.mkdir()
    cache = {"SELECTIVE_UNLEARNING_CACHE": str(home/"cache"), "OMP_NUM_THREADS": "1"}
    env = os.environ | STEADY | cache
    command = [sys.executable, __file__, str(home), str(megabytes)]
    p = subprocess.run(command, env=env, capture_output=True, text=True)
    assert p.returncode == 0, p.stderr[-2000:]
    return json.loads(p.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_ten_times_the_text(tmp_path):
    small, large = grown(tmp_path/"one", 1), grown(tmp_path/"ten", 10)
    more = {step: (large[step]-small[step])/1e6 for step in small}
    assert max(more.values()) < 10, f"MB more for 10 MB of text than for 1 MB: {more}"


if __name__ == "__main__": print(json.dumps(growth(Path(sys.argv[1]), int(sys.argv[2]))))
