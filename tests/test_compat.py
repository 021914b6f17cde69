"""OpenMMLab beside a package that breaks it."""

import sys

import pytest

from tests.commands import run


@pytest.mark.parametrize(
    ('version', 'left_out'),
    [('4.57.0', False), ('5.0.0rc1', True), ('5.17.0', True)],
)
def test_transformers(version, left_out, tmp_path):
    """An empty package of this version; MMPretrain asks for the version."""
    info = tmp_path / f'transformers-{version}.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text(f'Name: transformers\nVersion: {version}\n')
    (tmp_path / 'transformers').mkdir()
    done = run(
        *(sys.executable, '-c', 'import pixcon_mm.models'),
        PYTHONPATH=str(tmp_path),
    )
    assert (done.returncode == 0) == left_out, done.stderr
    assert left_out or "'transformers'" in done.stderr
