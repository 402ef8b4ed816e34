"Plots in a kernel like JupyterLab's, where nobody has drawn with pyplot."
import pytest
from jupyter_client.manager import start_new_kernel


@pytest.fixture(scope="module")
def kernel():
    manager, client = start_new_kernel(kernel_name="python3")
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def shown(client, code):
    "The kinds of what a cell shows, in order."
    out = []
    def hook(message):
        if "data" in message["content"]: out.append(set(message["content"]["data"]))
    reply = client.execute_interactive(code, timeout=300, output_hook=hook)
    assert reply["content"]["status"] == "ok", reply["content"]
    return out


PICTURE = {"image/png", "text/plain"}


def test_a_figure_is_a_picture(kernel):
    losses = "[dict(step=1, loss=2.), dict(step=2, loss=1.)]"
    curves = "from selective_unlearning.training.curves import plot_loss, plot_path"
    assert shown(kernel, f"{curves}\nplot_loss({losses}).figure") == [PICTURE]
    point = "dict(step={0}, utility=1., familiarity={1}, low={1}, high={1})"
    path = f"[{point.format(0, 1.)}, {point.format(1, .1)}]"
    assert shown(kernel, f"plot_path({path}).figure") == [PICTURE]


def test_and_only_once(kernel):
    "Also where pyplot is used beside it."
    assert shown(kernel, "import matplotlib.pyplot as plt\nplt.plot([1, 2]);") == [PICTURE]
    own = "from selective_unlearning.core.plots import new_axes\nnew_axes().figure"
    assert shown(kernel, own) == [PICTURE]
