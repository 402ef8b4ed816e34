"""Open a notebook in a JupyterLab of its own with Chromium, run every cell, take a picture.

    python tools/lab.py nbs/tutorials/00_tour.ipynb picture.png
    python tools/lab.py --stored --looks nbs/tutorials/00_tour.ipynb tour.png

Needs Debian's `chromium`, or the path of a Chromium or Chrome in CHROMIUM.
"""
import argparse, json, os, secrets, shutil, signal, socket, subprocess, sys, tempfile, time
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import nbformat
from nbformat.sign import NotebookNotary
from playwright.sync_api import sync_playwright

SETTINGS = {"notebook-extension/tracker": {"windowingMode": "none"},  # every cell stays in the page
            "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False}}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
LIMIT = """async (work, seconds, late) => { let timer;
  const over = new Promise((_, no) => { timer = setTimeout(() => no(Error(late)), 1000*seconds) });
  try { return await Promise.race([work, over]) } finally { clearTimeout(timer) } }"""
READY = """(async () => { const c = jupyterapp.shell.currentWidget.context; await c.ready;
  await c.sessionContext.ready; const kernel = c.sessionContext.session.kernel;
  await kernel.info; await kernel.spec })()"""
RUN = "jupyterapp.commands.execute('notebook:run-all-cells')"
# what a cell writes to stderr carries this type, and so does the traceback of an error
WRONG = """() => [...document.querySelectorAll('.jp-Notebook img')].filter(i => !i.naturalWidth)
  .map(i => `picture missing: ${i.alt || i.src.slice(0, 80)}`).concat(
  [...document.querySelectorAll('mjx-merror')].map(e => `formula: ${e.innerText}`))"""
LOOKS = {"light": ("JupyterLab Light", 1200), "dark": ("JupyterLab Dark", 1200),
         "narrow": ("JupyterLab Light", 640)}
THEME = "theme => jupyterapp.commands.execute('apputils:change-theme', {theme})"
HEIGHT = "[...document.querySelectorAll('.jp-Notebook-cell')].reduce((h, c) => h+c.offsetHeight, 0)"
ERRORS = ".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.stderr']"


def chromium():
    "The browser's path, or None."
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


@contextmanager
def browser():
    "A page of a fresh Chromium."
    with sync_playwright() as p:
        b = p.chromium.launch(executable_path=chromium(), args=FLAGS)
        try:
            page = b.new_page(viewport={"width": 1200, "height": 1000})
            page.set_default_timeout(60_000)
            yield page
        finally: b.close()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def up(url):
    try: urlopen(url).close()
    except (URLError, ConnectionError): return False
    return True


@contextmanager
def lab(root, *trusted):
    """A JupyterLab on `root` with its own port and settings; a notebook's address there, with %s.

    Of the notebooks `trusted`, paths from the root, stored styles and scripts work too."""
    port, token = free_port(), secrets.token_hex()
    at = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as tmp:
        for k,v in SETTINGS.items():
            f = Path(tmp)/f"settings/@jupyterlab/{k}.jupyterlab-settings"
            f.parent.mkdir(parents=True, exist_ok=True)
            f.write_text(json.dumps(v))
        notary = NotebookNotary(data_dir=tmp)
        for notebook in trusted: notary.sign(nbformat.read(Path(root)/notebook, 4))
        env = dict(os.environ, JUPYTER_CONFIG_DIR=f"{tmp}/cfg", JUPYTER_RUNTIME_DIR=f"{tmp}/run",
                   JUPYTER_DATA_DIR=tmp, JUPYTERLAB_SETTINGS_DIR=f"{tmp}/settings",
                   JUPYTERLAB_WORKSPACES_DIR=f"{tmp}/ws")
        cmd = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}",
               "--ServerApp.port_retries=0", "--ServerApp.ip=127.0.0.1",
               f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={root}",
               f"--config={Path(__file__).with_name('jupyter_config.py')}",
               "--LabApp.expose_app_in_browser=True"]
        log = Path(tmp)/"log"
        with log.open("w") as f:
            p = subprocess.Popen(cmd, cwd=root, env=env, stdout=f, stderr=f, start_new_session=True)
        try:
            for _ in range(600):
                if p.poll() is not None: raise RuntimeError(log.read_text())
                if up(f"{at}/api?token={token}"): break
                time.sleep(.2)
            else: raise TimeoutError(log.read_text())
            yield f"{at}/lab/tree/%s?token={token}&reset"
        finally:
            os.killpg(p.pid, signal.SIGTERM)  # the server ends its kernels, then itself
            try: p.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(p.pid, signal.SIGKILL)
                p.wait()


def within(page, work, seconds, late):
    "Wait for a promise in the page, but not longer than `seconds`."
    page.evaluate(f"async () => {{ await ({LIMIT})({work}, {seconds}, {json.dumps(late)}) }}")


def show(page, url):
    "Go to a notebook, and wait until its kernel is there and idle."
    page.goto(url)
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    within(page, READY, 120, "no kernel came up: does the notebook's metadata name one?")


@contextmanager
def opened(url):
    "The page of a notebook whose kernel is there and idle; in the end it is gone."
    with browser() as page:
        show(page, url)
        try: yield page
        finally: page.evaluate("jupyterapp.serviceManager.sessions.shutdownAll()")


def wrong(page):
    "What a reader of the open notebook would see broken: pictures that are missing, formulas."
    return page.evaluate(WRONG)


def pictures(page, picture):
    "Pictures of the whole notebook: light, dark, and in a narrow window."
    page.evaluate("jupyterapp.commands.execute('application:toggle-left-area')")
    for look,(theme, width) in LOOKS.items():
        page.evaluate(THEME, theme)
        page.set_viewport_size(dict(width=width, height=1000))
        page.wait_for_timeout(500)
        page.set_viewport_size(dict(width=width, height=min(page.evaluate(HEIGHT)+300, 15_000)))
        page.wait_for_timeout(500)                       # for the theme, and for what is drawn late
        page.screenshot(path=picture.with_stem(f"{picture.stem}-{look}"))


def unchanged(page):
    "Whether JupyterLab takes the notebook to be as it was read."
    return not page.evaluate("jupyterapp.shell.currentWidget.context.model.dirty")


def run_all(page, seconds=900):
    "Run every cell and wait for the last; the tracebacks of those that failed."
    within(page, RUN, seconds, f"the cells were not done after {seconds} s")
    return [t for t in page.locator(ERRORS).all_inner_texts() if "Traceback" in t]


def main():
    a = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    a.add_argument("notebook", help="from the folder where this is started")
    a.add_argument("picture", type=Path)
    a.add_argument("--stored", action="store_true", help="show stored outputs, run nothing")
    a.add_argument("--looks", action="store_true", help="whole: light, dark, and 640 pixels wide")
    a = a.parse_args()
    with lab(Path.cwd(), a.notebook) as url, opened(url % a.notebook) as page:
        errors = wrong(page) if a.stored else run_all(page)
        if a.looks: pictures(page, a.picture)
        else: page.screenshot(path=a.picture)
    print(*errors, f"{a.picture}, {len(errors)} errors", sep="\n")
    return bool(errors)


if __name__ == "__main__": raise SystemExit(main())
