"A corpus may be larger than memory: ten times the text takes no more of it."
import json, os, random, re, subprocess, sys, threading, time
from pathlib import Path

import pytest

from selective_unlearning.job.run import run
from selective_unlearning.job.settings import configure
from selective_unlearning.job.steps import make_prompt_files
from tiny import TEXT, settings

DOCUMENT = 20_000  # characters


def write_corpus(folder, megabytes):
    "Documents of random sentences, each with a number, so that few come twice."
    folder.mkdir()
    rng = random.Random(0)
    sentences = [f"{s.strip()}." for s in TEXT.replace("\n", " ").split(".") if s.strip()]
    for i in range(megabytes*1_000_000//DOCUMENT):
        paragraphs, size = [], 0
        while size < DOCUMENT:
            day = f" It was day {rng.randrange(10**6)}."
            paragraphs.append(" ".join(rng.choices(sentences, k=8)) + day)
            size += len(paragraphs[-1])
        (folder/f"{i:05d}.txt").write_text("\n\n".join(paragraphs), encoding="utf-8")


def anonymous():
    "What this process holds of its own, in bytes, without files that are mapped into memory."
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"RssAnon:\s*(\d+) kB", status)[1])*1024


def growth(home, megabytes):
    "By how much the memory grows at most, from the corpus to the prompts."
    config = settings(home/"small", force=True, block_size=16)
    run(config, home/"warm-up", until="translated")
    write_corpus(home/"big", megabytes)
    before, peak = anonymous(), [0]
    def watch():
        while True:
            peak[0] = max(peak[0], anonymous())
            time.sleep(.02)
    threading.Thread(target=watch, daemon=True).start()
    r = run(configure(config, {"corpus": str(home/"big")}), home/"run", until="translated")
    make_prompt_files(r, home/"prompts")
    return peak[0]-before


def grown(home, megabytes):
    "The same in a process of its own."
    home.mkdir()
    env = os.environ | {"SELECTIVE_UNLEARNING_CACHE": str(home/"cache"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, str(home), str(megabytes)]
    p = subprocess.run(command, env=env, capture_output=True, text=True)
    assert p.returncode == 0, p.stderr[-2000:]
    return json.loads(p.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_ten_times_the_text(tmp_path):
    small, large = grown(tmp_path/"one", 1), grown(tmp_path/"ten", 10)
    assert large-small < 10_000_000, f"{small:,} bytes for 1 MB, {large:,} for 10 MB"


if __name__ == "__main__": print(growth(Path(sys.argv[1]), int(sys.argv[2])))
