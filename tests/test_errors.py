"""A user's mistake becomes a sentence; a bug of ours stays a traceback."""

import pytest
from mmengine.registry import Registry
from torch.utils.data import DataLoader, Dataset

from pixcon_mm.errors import UserError, explain, run_tool

THINGS = Registry('thing', scope='test_errors', locations=['tests'])


@THINGS.register_module()
class Plain:
    def __init__(self, width, depth=1):
        if depth == 'wrong call':
            Plain(widht=width)


@THINGS.register_module()
class Child(Plain):
    def __init__(self, colour='red', **kwargs):
        super().__init__(**kwargs)


@THINGS.register_module()
class Holder:
    def __init__(self, inner):
        self.inner = THINGS.build(inner)


def said(work):
    """What is said of the error that ``work`` raises."""
    with pytest.raises(Exception, match='.') as caught:
        work()
    return explain(caught.value)


def build(**cfg):
    return said(lambda: THINGS.build(cfg))


def test_unknown_key():
    sentence = build(type='Plain', width=1, dept=2)
    assert sentence == (
        "The config gives Plain a key 'dept' that it does not take. "
        "Did you mean 'depth'?"
    )


def test_unknown_key_without_a_similar_one():
    assert build(type='Plain', width=1, zzz=2).endswith('does not take.')


def test_unknown_key_that_went_through_a_base_class():
    """The base class refuses it, but the config names the child."""
    assert build(type='Child', widt=1) == (
        "The config gives Child a key 'widt' that it does not take. "
        "Did you mean 'width'?"
    )
    assert "mean 'colour'?" in build(type='Child', width=1, color='blue')


def test_unknown_key_of_a_nested_object():
    sentence = build(type='Holder', inner=dict(type='Plain', wdth=1))
    assert 'gives Plain a key' in sentence
    assert "mean 'width'?" in sentence


@pytest.mark.parametrize('nested', [False, True])
def test_unknown_type(nested):
    cfg = dict(type='Plane', width=1)
    cfg = dict(type='Holder', inner=cfg) if nested else cfg
    assert build(**cfg) == (
        "The config has type='Plane', and no thing of that name is "
        "registered. Did you mean 'Plain'? If it is your own, name its "
        'module in custom_imports.'
    )


def test_mistake_behind_other_errors():
    def because():
        try:
            raise UserError('No images.')
        except UserError as error:
            raise ValueError('bad dataset') from error

    def while_handling():
        try:
            because()
        except ValueError:
            raise KeyError('third') from None

    assert said(because) == 'No images.'
    assert said(while_handling) == 'No images.'


class Unreadable(Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        raise UserError('Image a.png: cannot be read.')


@pytest.mark.parametrize('workers', [0, 1])
def test_mistake_found_by_a_loader_worker(workers):
    loader = DataLoader(Unreadable(), num_workers=workers)
    assert said(lambda: next(iter(loader))) == 'Image a.png: cannot be read.'


def needs(width):
    return width


@pytest.mark.parametrize(
    'work',
    [
        lambda: {}['lost'],
        lambda: needs(widht=1),
        lambda: Plain(widht=1),
        # The config is right; the constructor makes the mistake.
        lambda: THINGS.build(dict(type='Plain', width=1, depth='wrong call')),
        lambda: THINGS.build(dict(type='Plain')),
        lambda: 1 / 0,
    ],
)
def test_bugs_are_not_explained_away(work):
    assert said(work) is None


def test_tool_that_ends_with_a_mistake(capsys, monkeypatch):
    monkeypatch.delenv('PIXCON_MM_TRACEBACK', raising=False)
    monkeypatch.delenv('LOCAL_RANK', raising=False)

    def main():
        raise UserError('No images.')

    with pytest.raises(SystemExit) as stop:
        run_tool(main)
    assert stop.value.code == 1
    out, err = capsys.readouterr()
    assert (out, err) == ('', 'error: No images.\n')

    monkeypatch.setenv('PIXCON_MM_TRACEBACK', '1')
    with pytest.raises(UserError):
        run_tool(main)


def test_tool_that_ends_with_a_bug_shows_it(capsys):
    with pytest.raises(ZeroDivisionError):
        run_tool(lambda: 1 / 0)
    assert 'error:' not in capsys.readouterr().err
