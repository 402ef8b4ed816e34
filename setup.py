"Metadata that pyproject.toml declares dynamic, read from settings.ini."
from configparser import ConfigParser
from pathlib import Path

from setuptools import setup

ini = ConfigParser(delimiters=["="], interpolation=None)  # "=" only: values hold ":" and "%"
ini.read(Path(__file__).parent/"settings.ini", encoding="utf-8")
cfg = ini["DEFAULT"]
setup(
    version=cfg["version"],
    install_requires=cfg["requirements"].split(),
    extras_require={k.removesuffix("_requirements"): v.split()
                    for k,v in cfg.items() if k.endswith("_requirements")},
)
