"""JupyterLab's configuration here: to open a notebook changes nothing, to save one cleans it.

JupyterLab notes in a notebook which kernel it got, down to Python's version, marks the notebook as
changed, and soon saves it; `nbdev-clean` takes that out again. Here the note is made when the file
is read, so that JupyterLab finds nothing to change, and taken out when it is written.
"""
from copy import deepcopy

from ipykernel.ipkernel import IPythonKernel
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager
from nbdev.clean import clean_nb

NAME = "python3"
SPEC = KernelSpecManager().get_kernel_spec(NAME)
KERNEL = {"kernelspec": {"name": NAME, "display_name": SPEC.display_name,
                         "language": SPEC.language},
          "language_info": IPythonKernel.language_info}


class CleanFiles(AsyncLargeFileManager):
    async def get(self, *args, **kwargs):
        model = await super().get(*args, **kwargs)
        if model["type"] == "notebook" and model["content"]:
            metadata = model["content"]["metadata"]
            if metadata.get("kernelspec", {}).get("name") == NAME: metadata |= deepcopy(KERNEL)
        return model

    async def save(self, model, path=""):
        if model["type"] == "notebook" and model.get("content"): clean_nb(model["content"])
        return await super().save(model, path)


get_config().ServerApp.contents_manager_class = CleanFiles  # noqa: F821 (JupyterLab has it ready)
