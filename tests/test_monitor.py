"The monitor of a run: how its watching ends, and what does not end it."
import asyncio, shutil

from selective_unlearning.core.files import write_atomic, write_json
from selective_unlearning.job import run_monitor
from selective_unlearning.job.manifest import STEPS, VERSION, part_path, step_path
from selective_unlearning.job.run_monitor import RunMonitor
from selective_unlearning.training.checkpoints import RECORD

MADE = dict(key="", outputs={}, stamp="", seconds=75., peak_memory_bytes=1, versions={}, inputs={})


def write_manifest(folder, steps):
    write_json(folder/"manifest.json", dict(version=VERSION, model="tiny@1",
                                            steps=dict.fromkeys(steps, MADE)))


def under_way(folder):
    "A run whose unlearning has made 20 of 90 steps."
    begun = part_path(folder, "unlearned")/"checkpoints"/RECORD
    write_json(begun, dict(steps=90, log=[dict(step=20, loss=2.)]))
    write_manifest(folder, ())


def finish(folder):
    shutil.rmtree(part_path(folder, "unlearned"))
    for step in STEPS: step_path(folder, step).mkdir()
    write_json(step_path(folder, "unlearned")/"loss.json", [dict(step=90, loss=1.)])
    write_manifest(folder, STEPS)


def watch(folder, work):
    "What a watching widget shows in the end, while `work` is done beside it."
    async def both():
        _, view = RunMonitor(folder).widget(.01).children
        task = run_monitor._watchers[folder.absolute()]
        await work(task, view)
        await asyncio.wait_for(task, 10)
        return view.value
    return asyncio.run(both())


def test_it_ends_with_the_run(tmp_path):
    "A file that cannot be read for a moment does not end it, and the last look is not missed."
    under_way(tmp_path)
    async def work(task, view):
        await asyncio.sleep(.05)
        assert "20 of 90" in view.value and not task.done()
        write_atomic(tmp_path/"manifest.json", "{")
        shutil.rmtree(part_path(tmp_path, "unlearned")/"checkpoints")
        await asyncio.sleep(.05)
        assert not task.done()
        finish(tmp_path)
    assert watch(tmp_path, work).count("done in 75 s") == len(STEPS)


def test_a_run_that_ends_before_the_first_look(tmp_path):
    under_way(tmp_path)
    async def work(task, view): finish(tmp_path)
    assert watch(tmp_path, work).count("done in 75 s") == len(STEPS)


def test_a_second_widget_takes_over(tmp_path):
    under_way(tmp_path)
    async def twice():
        RunMonitor(tmp_path).widget(.01)
        first = run_monitor._watchers[tmp_path]
        RunMonitor(tmp_path).widget(.01)
        second = run_monitor._watchers[tmp_path]
        await asyncio.sleep(.05)
        assert first.cancelled() and not second.done()
        second.cancel()
    asyncio.run(twice())


def test_without_a_loop_it_looks_when_asked(tmp_path):
    under_way(tmp_path)
    button, view = RunMonitor(tmp_path).widget().children
    finish(tmp_path)
    assert "20 of 90" in view.value
    button.click()
    assert view.value.count("done in 75 s") == len(STEPS)
