"What pyproject.toml cannot hold: metadata of settings.ini, and the packages, data folders included."
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

ini = ConfigParser(delimiters=["="], interpolation=None)  # "=" only: values hold ":" and "%"
ini.read(Path(__file__).parent/"settings.ini", encoding="utf-8")
cfg = ini["DEFAULT"]
data = [p.as_posix().replace("/", ".") for p in [Path("data"), *sorted(Path("data").rglob("*"))] if p.is_dir()]
setup(
    # the demo data stands beside the package here and travels inside it; to setuptools a folder of data is a package
    packages=[*find_packages(include=["selective_unlearning*"]), *(f"selective_unlearning.{d}" for d in data)],
    package_dir={"selective_unlearning.data": "data"},
    package_data={"selective_unlearning.data": ["**/*"]},
    version=cfg["version"],
    install_requires=cfg["requirements"].split(),
    extras_require={k.removesuffix("_requirements"): v.split()
                    for k,v in cfg.items() if k.endswith("_requirements")},
)
