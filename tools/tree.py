"The files that make up the project: what git tracks, and what is new and not ignored."
import shutil, subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def files():
    "Their paths from the root, as they stand now, committed or not."
    cmd = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    out = subprocess.run(cmd, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return sorted(Path(f) for f in set(out.split("\0")) if f and (ROOT/f).is_file())


def copy(to):
    "A copy of the project in the folder `to`."
    for f in files():
        (to/f).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT/f, to/f)
    return to
