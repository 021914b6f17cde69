"""Build step that pyproject.toml cannot express: the files that mim uses."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
# These need what only the repository has.
REPOSITORY_TOOLS = (
    'benchmark.py',
    'check_env.py',
    'demo.py',
    'install.sh',
    'install_wheelhouse.sh',
    'make_demo_data.py',
    'make_wheelhouse.sh',
    'reproduce.py',
)


class BuildWithMim(build_py):
    """Build of the package with configs and tools in pixcon_mm/.mim."""

    def run(self) -> None:
        """Build, and copy what mim looks for into the package."""
        if self.editable_mode:  # mim finds both beside the package
            super().run()
            return
        # Files of an earlier build would get into the wheel.
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()
        target = Path(self.build_lib) / 'pixcon_mm/.mim'
        unwanted = shutil.ignore_patterns('__pycache__', *REPOSITORY_TOOLS)
        for name in ('configs', 'tools'):
            shutil.copytree(ROOT / name, target / name, ignore=unwanted)
        index = ROOT / 'model-index.yml'
        if index.exists():
            shutil.copy(index, target)


setup(cmdclass={'build_py': BuildWithMim})
