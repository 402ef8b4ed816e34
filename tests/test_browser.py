"What a person sees: the tour in JupyterLab, and the documentation site. Chromium drives both."
import functools, http.server, os, shutil, subprocess, sys, threading
from urllib.parse import urlsplit

import pytest

import lab

TOUR = "nbs/tutorials/01_tour.ipynb"
pytestmark = pytest.mark.skipif(
    not lab.chromium() and not os.environ.get("CI"),
    reason="no Chromium: apt-get install chromium, or name one in CHROMIUM")


def test_tour_in_jupyterlab(root, tmp_path):
    "Every cell runs, and turning a viewer's page changes the rows that it shows."
    shutil.copy2(root/TOUR, tmp_path/"tour.ipynb")
    with lab.lab(tmp_path) as url, lab.opened(url % "tour.ipynb") as page:
        assert lab.run_all(page) == []
        box = page.locator(".widget-vbox:has(.su-view):has(.noUi-target:not([disabled]))").first
        view, knob = box.locator(".su-view").first, box.locator(".noUi-handle").first
        before = view.inner_text()
        assert " 1 to 20 of " in before
        knob.focus()
        knob.press("ArrowRight")
        box.locator(".su-view", has_text=" 21 to ").first.wait_for()
        assert box.locator(".widget-readout").first.inner_text() == "2"
        rows = lambda text: set(text.splitlines()[1:-1])
        assert rows(view.inner_text()) - rows(before)


@pytest.fixture(scope="module")
def site(root, tmp_path_factory):
    "The address of the documentation site, built anew and served from this machine."
    if sys.version_info < (3, 11): pytest.skip("smalldocs needs Python 3.11")
    out = tmp_path_factory.mktemp("site")/"docs"
    p = subprocess.run([sys.executable, "tools/docs.py", "--out", str(out)], cwd=root,
                       capture_output=True, text=True)
    assert p.returncode == 0, p.stdout+p.stderr

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args): pass

    handler = functools.partial(Quiet, directory=out)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_site(site):
    "Search finds a page, a widget shows without a kernel, nothing is missing or from elsewhere."
    with lab.browser() as page:
        asked, failed = [], []
        page.on("request", lambda r: asked.append(r.url))
        page.on("response", lambda r: failed.append(r.url) if r.status >= 400 else None)
        page.goto(f"{site}/index.html")
        search = page.locator(".smalldocs-search input:visible")
        search.fill("substitute")
        hit = page.locator(".search-result[href*='substitute.html']").first
        hit.wait_for()
        hit.click()
        page.wait_for_url("**/substitute.html*")
        assert "def substitute" in page.locator("main").inner_text()
        page.goto(f"{site}/widgets.html")
        tables = page.locator(".su-view table")
        tables.first.wait_for()
        assert max(t.locator("tbody tr").count() for t in tables.all()) > 1
        assert failed == []
        assert {urlsplit(u).netloc for u in asked} == {urlsplit(site).netloc}
