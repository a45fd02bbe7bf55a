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
        # pip leaves build/ in the clone: what is gone from it by now would be in the next package, too.
        shutil.rmtree(Path(self.build_lib, "carlib"), ignore_errors=True)
        super().run()
        into = Path(self.build_lib, "carlib", method_networks.PACKAGED.name)
        into.mkdir()
        for path in self._weights():
            shutil.copyfile(path, into / Path(path).name)

    def get_source_files(self):
        """What a source distribution holds, too."""
        return [*super().get_source_files(), *self._weights()]

    def _weights(self):
        """Paths as setuptools wants them, relative to the working folder."""
        found = []
        for run in (*method_networks.PAIRS.values(), *method_networks.EDSR.values()):
            files = method_networks.files(run, ROOT / "data" / "weights")
            if not files:
                raise SystemExit(f"data/weights has no {run.format('N')}.safetensors: build carlib from a whole clone")
            found += [os.path.relpath(path) for path in files.values()]
        return found


setup(cmdclass={"build_py": WithWeights})
