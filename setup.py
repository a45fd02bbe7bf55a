"""Puts the weights that `carlib downscale` and `upscale` take into a built package; pyproject.toml has the rest."""

import os
import shutil
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))  # pip builds in an environment that has setuptools alone
from carlib import method_networks  # noqa: E402


class WithWeights(build_py):
    """Copies them from data/weights; an editable install finds them there."""

    def run(self):
        if self.editable_mode:
            return super().run()
        built = Path(self.build_lib, "carlib")
        if built.resolve() == ROOT / "carlib":
            raise SystemExit(f"--build-lib {self.build_lib} is the clone itself: name another folder")
        # pip leaves build/ in the clone: what is gone from it by now would be in the next package, too.
        shutil.rmtree(built, ignore_errors=True)
        super().run()
        into = built / method_networks.PACKAGED.name
        into.mkdir()
        for run, files in self._weights().items():
            if not files:
                raise SystemExit(f"data/weights has no {run.format('N')}.safetensors: build carlib from a whole clone")
            for path in files:
                shutil.copyfile(path, into / path.name)

    def get_source_files(self):
        """What a source distribution holds, too."""
        # setuptools wants paths that are relative to the working folder.
        return [*super().get_source_files(), *(os.path.relpath(p) for files in self._weights().values() for p in files)]

    def _weights(self):
        """Run of a method, its scale left open -> its files in data/weights."""
        runs = (*method_networks.PAIRS.values(), *method_networks.EDSR.values())
        return {run: list(method_networks.files(run, ROOT / "data" / "weights").values()) for run in runs}


setup(cmdclass={"build_py": WithWeights})
