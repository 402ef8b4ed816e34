"What pyproject.toml cannot hold: metadata of settings.ini, and the packages, data folders too."
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

ini = ConfigParser(delimiters=["="], interpolation=None)  # "=" only: values hold ":" and "%"
ini.read(Path(__file__).parent/"settings.ini", encoding="utf-8")
cfg = ini["DEFAULT"]
folders = [p for p in [Path("data"), *sorted(Path("data").rglob("*"))] if p.is_dir()]
data = [f"selective_unlearning.{p.as_posix().replace('/', '.')}" for p in folders]
setup(
    # the demo data is beside the package here and travels inside it, where setuptools takes every
    # folder of data for a package
    packages=[*find_packages(include=["selective_unlearning*"]), *data],
    package_dir={"selective_unlearning.data": "data"},
    package_data={"selective_unlearning": ["py.typed"], "selective_unlearning.data": ["**/*"]},
    version=cfg["version"],
    install_requires=cfg["requirements"].split(),
    extras_require={k.removesuffix("_requirements"): v.split()
                    for k,v in cfg.items() if k.endswith("_requirements")},
)
