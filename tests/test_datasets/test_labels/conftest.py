"""Label check of a data set of a test's own."""

import pytest

from pixcon_mm.datasets.labels import check
from pixcon_mm.datasets.labels.sources import Source


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('PIXCON_MM_CACHE', str(tmp_path / 'cache'))


@pytest.fixture
def sentences():
    """Check a data set; returns the sentences by level."""

    def _sentences(kind, dataset, loader='train_dataloader', **options):
        source = Source(kind, loader, dataset, **options)
        report = check._check_or_remember(source)
        levels = dict(stop=[], warning=[], note=[])
        for level, sentence in report.found:
            levels[level].append(sentence)
        return levels

    return _sentences
