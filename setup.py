"""Puts the weights that `carlib downscale` and `upscale` take into a built package; pyproject.toml has the rest."""

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
        super().run()
        if not self.editable_mode:
            into = Path(self.build_lib, "carlib", method_networks.PACKAGED.name)
            self.mkpath(str(into))
            for path in self._weights():
                self.copy_file(path, str(into / Path(path).name))

    def get_source_files(self):
        """What a source distribution holds, too."""
        return [*super().get_source_files(), *self._weights()]

    def _weights(self):
        runs = [*method_networks.PAIRS.values(), *method_networks.EDSR.values()]
        found = [path for run in runs for path in sorted(Path("data/weights").glob(f"{run.format('?')}.safetensors"))]
        return [str(path) for path in found]


setup(cmdclass={"build_py": WithWeights})
