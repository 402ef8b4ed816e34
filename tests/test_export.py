"""What leaves the run folder.

It is loaded by plain peft and transformers, and compared with what the run itself says."""
import os, re, shutil, subprocess, sys

import pytest
import torch
import yaml
from huggingface_hub import constants
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from selective_unlearning.job import export
from selective_unlearning.job.command import main
from selective_unlearning.core.files import path_hash, read_json, write_atomic, write_json
from selective_unlearning.job.settings import configure, read_config, to_yaml
from selective_unlearning.models.load import ORIGIN, default_dtype
from selective_unlearning.job.run_folder import Run
from selective_unlearning.job.run import run
from tiny import TEXT, settings

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing")
BFLOAT16 = .05  # of a log-probability, where weights were rounded to 8 binary digits


@pytest.fixture(scope="module", params=["adapter", "all weights"])
def done(tmp_path_factory, request):
    "A finished run."
    home = tmp_path_factory.mktemp("export")
    r = 0 if request.param == "all weights" else 4
    with pytest.MonkeyPatch.context() as m:
        m.setenv("SELECTIVE_UNLEARNING_CACHE", str(home/"cache"))
        changes = {"lora.r": r, "unlearn.epochs": 5, "unlearn.lr": 1e-2}
        run(settings(home, **changes), home/"run")
    base = AutoModelForCausalLM.from_pretrained(home/"llama", dtype=torch.float32).eval()
    tok = AutoTokenizer.from_pretrained(home/"llama")
    assert (says(base, tok)-ours(home)).abs().max() > 4*BFLOAT16
    return home


@torch.no_grad()
def says(model, tokenizer):
    return model(**tokenizer(TEXT, return_tensors="pt")).logits.float().log_softmax(-1)


def ours(home):
    r = Run(home/"run")
    with r.reader("unlearned").on() as model: return says(model.float(), r.tokenizer)


def theirs(home):
    "What plain peft says with base and adapter as stored, before a base is rounded."
    tok = AutoTokenizer.from_pretrained(home/"llama")
    base = AutoModelForCausalLM.from_pretrained(home/"llama")
    return says(PeftModel.from_pretrained(base, home/"run"/"09-unlearned").eval(), tok)


def needs_adapter(home):
    if not (home/"run"/"09-unlearned"/"adapter_model.safetensors").exists():
        pytest.skip("no adapter")


def alone(code, cwd, home):
    "Run Python as somebody else would: no network, nothing of ours, no hub cache but this one."
    home.mkdir(exist_ok=True)
    ours = "HF_", "PYTHONPATH", "SELECTIVE_", "TRANSFORMERS_"
    env = {k: v for k,v in os.environ.items() if not k.startswith(ours)}
    env |= dict(HOME=str(home), HF_HOME=str(home/"hf"), HF_HUB_OFFLINE="1")
    p = subprocess.run([sys.executable, "-c", code], cwd=cwd, env=env, capture_output=True,
                       text=True)
    assert p.returncode == 0, p.stderr[-3000:]
    return p.stdout


KEEP = f"""
import torch
with torch.no_grad(): logits = model.float()(**tokenizer({TEXT!r}, return_tensors="pt")).logits
said = logits.log_softmax(-1)
torch.save(said, "said.pt")
"""


def run_card(folder, home):
    "Run the lines in a card in its folder: what they print, and what their model says of the text."
    code = re.search(r"```python\n(.*?)```", (folder/"README.md").read_text(), re.S)[1]
    return alone(code+KEEP, folder, home), torch.load(folder/"said.pt")


def as_on_the_hub(folder, cache, name, commit):
    "A model's folder as the hub's cache has it."
    repo = cache/f"models--{name.replace('/', '--')}"
    shutil.copytree(folder, repo/"snapshots"/commit)
    write_atomic(repo/"refs"/"main", commit)
    return repo/"snapshots"/commit


def with_model(done, to, model, identity):
    "The run as if its base had been another one."
    shutil.copytree(done/"run", to)
    config = to_yaml(configure(read_config(to/"config.yaml"), dict(model=model)))
    write_atomic(to/"config.yaml", config)
    changed = dict(model=identity, config=path_hash(to/"config.yaml"))
    write_json(to/"manifest.json", read_json(to/"manifest.json") | changed)
    return to


def test_plain_peft_says_the_same(done):
    needs_adapter(done)
    tok = AutoTokenizer.from_pretrained(done/"llama")
    base = AutoModelForCausalLM.from_pretrained(done/"llama", dtype=default_dtype()).float()
    plain = says(base, tok)
    model = PeftModel.from_pretrained(base, done/"run"/"09-unlearned").eval()
    assert says(model, tok).equal(ours(done))
    assert not says(model, tok).equal(plain)


def test_exported(done, tmp_path, capsys):
    assert main(["export", "--run", f"{done}/run", "--out", f"{tmp_path}/m", "--merge"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/m\n"
    model = AutoModelForCausalLM.from_pretrained(tmp_path/"m", dtype=torch.float32).eval()
    tok = AutoTokenizer.from_pretrained(tmp_path/"m")
    torch.testing.assert_close(says(model, tok), ours(done), atol=BFLOAT16, rtol=0)
    assert main(["export", "--run", f"{done}/run", "--out", f"{tmp_path}/n"]) == 0
    card = (tmp_path/"n"/"README.md").read_text()
    header = yaml.safe_load(card.split("---")[1])
    stated = header["base_model"], header["license"], "language" in header
    assert stated == ("llama", "other", False)
    assert "a local folder named llama" in card and "none was stated" in card
    assert path_hash(done/"book.txt") in card
    assert path_hash(done/"run"/"02-dictionary"/"dictionary.json") in card
    for p in tmp_path.rglob("*"):
        if p.is_file():
            assert str(done).encode() not in p.read_bytes() and b"book.txt" not in p.read_bytes(), p
            assert p.suffix not in (".bin", ".pt", ".pth", ".pkl")


def test_merged_card_runs(done, tmp_path):
    folder = export.export_run(done/"run", tmp_path/"m", merge_weights=True)
    printed, logp = run_card(folder, tmp_path/"home")
    assert "Once upon a time" in printed
    torch.testing.assert_close(logp, ours(done), atol=BFLOAT16, rtol=0)


def test_base_beside(done, tmp_path, capsys):
    "From another directory, with no network and no cache; after a move, by the lines in the card."
    if not (done/"run"/"09-unlearned"/"adapter_model.safetensors").exists():
        with_base = ["export", "--run", f"{done}/run", "--out", f"{tmp_path}/b", "--with-base"]
        assert main(with_base) == 2
        assert "plain weights need none" in capsys.readouterr().err
        return
    assert main(["export", "--run", f"{done}/run", "--out", f"{tmp_path}/b", "--with-base"]) == 0
    folder, want = tmp_path/"b", ours(done)
    for p in folder.rglob("*"):
        if not p.is_file(): continue
        content = p.read_bytes()
        assert str(done).encode() not in content, p
        assert (p.name == "adapter_config.json") == (str(tmp_path).encode() in content), p
    (tmp_path/"elsewhere").mkdir()
    alone(f"""
import torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained({str(folder)!r})
model = AutoPeftModelForCausalLM.from_pretrained({str(folder)!r}, dtype={default_dtype()})
{KEEP}""", tmp_path/"elsewhere", tmp_path/"home")
    assert torch.load(tmp_path/"elsewhere"/"said.pt").equal(want)
    _, logp = run_card(folder.rename(tmp_path/"moved"), tmp_path/"home")
    assert logp.equal(theirs(done))


@pytest.mark.parametrize("model, identity, name, header", [
    ("smollm2-135m", "smollm2-135m@0123456789abcdef", "HuggingFaceTB/SmolLM2-135M-Instruct",
     dict(license="apache-2.0", language="en")),
    ("tiny/llama", "tiny/llama@"+"0123456789"*4, "tiny/llama",
     dict(license="mit", language=["en", "de"]))])
def test_hub_base(done, tmp_path, monkeypatch, model, identity, name, header):
    "The base is named as on the hub, and the card's lines find it there: here, a tiny model."
    needs_adapter(done)
    cache = tmp_path/"home"/"hf"/"hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    hub = as_on_the_hub(done/"llama", cache, name, "0123456789"*4)
    write_atomic(hub/"README.md", "---\nlicense: mit\nlanguage: [en, de]\n---\n# Tiny\n")
    folder = export.export_run(with_model(done, tmp_path/"run", model, identity), tmp_path/"out")
    assert read_json(folder/"adapter_config.json")["base_model_name_or_path"] == name
    card = (folder/"README.md").read_text()
    stated = yaml.safe_load(card.split("---")[1])
    assert stated["base_model"] == name and {k: stated[k] for k in header} == header
    embedded = ORIGIN["weights"] in card and 'load_model("smollm2-135m")' in card
    assert embedded == (model == "smollm2-135m")
    assert "local folder" not in card and "none was stated" not in card
    _, logp = run_card(folder, tmp_path/"home")
    assert logp.equal(theirs(done))


def test_folder_is_no_hub_id(done, tmp_path):
    "A folder is a folder, whatever its name and configuration say; the licence is its card's."
    shutil.copytree(done/"llama", tmp_path/"smollm2-135m")
    config = read_json(tmp_path/"smollm2-135m"/"config.json")
    hub_name = dict(_name_or_path="HuggingFaceTB/SmolLM2-135M-Instruct")
    write_json(tmp_path/"smollm2-135m"/"config.json", config | hub_name)
    write_atomic(tmp_path/"smollm2-135m"/"README.md",
                 "---\nlicense: other\nlicense_name: own\n---\n")
    changed = with_model(done, tmp_path/"run", f"{tmp_path}/smollm2-135m",
                         "smollm2-135m@0123456789abcdef")
    card = export.model_card(changed)
    header = yaml.safe_load(card.split("---")[1])
    stated = header["base_model"], header["license"], header["license_name"]
    assert stated == ("smollm2-135m", "other", "own")
    assert "a local folder named smollm2-135m" in card
    assert "HuggingFaceTB" not in card and "none was stated" not in card


def test_unfinished_or_taken(done, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(export, "get_token", lambda: None)
    (tmp_path/"taken").mkdir()
    (tmp_path/"taken"/"thesis.tex").write_text("x")
    folder, new = ["--run", f"{done}/run"], ["--out", f"{tmp_path}/x"]
    for argv, code, why in (
        (["--run", f"{done}/llama", *new], 1, "llama: not a run folder"),
        ([*folder, "--out", f"{tmp_path}/taken"], 1, "taken: is not empty"),
        ([*folder, *new, "--push", "me/x"], 2, "no token: log in with"),
    ):
        assert main(["export", *argv]) == code
        assert re.search(why, capsys.readouterr().err)
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_pushed(done, tmp_path, monkeypatch):
    asked = []
    class Hub:
        def __init__(self, token): asked.append(token)
        def create_repo(self, repo, private, exist_ok):
            asked.append((repo, private))
            return repo
        def repo_info(self, repo): return type("Info", (), dict(private=asked[-1][1]))
        def upload_folder(self, repo_id, folder_path, commit_message):
            asked.append((repo_id, folder_path, commit_message))
    monkeypatch.setattr(export, "HfApi", Hub)
    monkeypatch.setenv("HF_TOKEN", "secret")
    push = ["export", "--run", f"{done}/run", "--out", f"{tmp_path}/x", "--push", "me/x"]
    assert main([*push, "--with-base"]) == 2
    assert main([*push[:-2], "--public"]) == 2                # without --push it says nothing
    assert not asked and not (tmp_path/"x").exists()
    assert main(["export", "--run", f"{done}/run", "--out", f"{tmp_path}/x", "--push", "me/x"]) == 0
    assert asked[:2] == ["secret", ("me/x", True)] and asked[2][:2] == ("me/x", f"{tmp_path}/x")
    assert not any(b"secret" in p.read_bytes() for p in (tmp_path/"x").rglob("*") if p.is_file())


def test_hostile_names(done, tmp_path):
    "A model's name and a report from outside cannot write Markdown or HTML into the card."
    bad = "evil`\n---\n# x <script>alert(1)</script> [a](http://b) | c"
    shutil.copytree(done/"run", tmp_path/"run")
    m = read_json(tmp_path/"run"/"manifest.json")
    write_json(tmp_path/"run"/"manifest.json", m | dict(model=f"{bad}@1"))
    r = read_json(tmp_path/"run"/"report.json")
    config = r["config"] | dict(seed=f"```\n{bad}")
    write_json(tmp_path/"run"/"report.json", r | dict(config=config))
    card = export.model_card(tmp_path/"run")
    assert yaml.safe_load(card[4:].split("\n---\n\n")[0])["base_model"] == " ".join(bad.split())
    body = card[4:].split("\n---\n\n", 1)[1]
    compile(re.search(r"```python\n(.*?)```", body, re.S)[1], "card", "exec")
    outside = re.sub(r"```(yaml|python)\n.*?\n```\n", "", body, flags=re.S)
    assert body.count("```") == 4 and "<script>" not in outside
    assert "\n# x" not in outside and "[a](http" not in outside
