"""Tests of tools/evaluate_dense.py: its results, and what it refuses."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.models import resnet18, resnet50

from pixcon_mm.checkpoint import pretrained
from pixcon_mm.checkpoint.load import sha256_of
from pixcon_mm.errors import UserError
from pixcon_mm.evaluation.protocols import sample_indices
from pixcon_mm.tools.evaluate_dense import main, parse_args
from tests import ROOT
from tests.test_evaluation.trees import make_cityscapes, make_own, make_voc

PAGE = [
    shlex.split(line, comments=True)
    for line in re.findall(
        r'^python tools/evaluate_dense.py .*',
        (ROOT / 'docs/evaluation.md').read_text().replace('\\\n', ''),
        re.MULTILINE,
    )
]


@pytest.fixture
def voc(tmp_path):
    return make_voc(tmp_path / 'voc', train=8)


@pytest.fixture
def evaluate(voc, tmp_path):
    """Run the tool on small images, and return its report."""

    def _evaluate(*words):
        out = tmp_path / 'new/dense.json'
        usual = ('--size', 64, 96, '--crop-size', 64, '--workers', 0)
        usual += ('--pretrained', 'none', '--data', voc, '--out', out)
        main(['resnet18', *map(str, (*usual, *words))])
        return json.loads(out.read_text())

    return _evaluate


def test_results_are_written_with_all_settings(evaluate, tmp_path, capsys):
    file = tmp_path / 'r18.pth'
    state = resnet18().state_dict(prefix='backbone.')
    torch.save(dict(state_dict=state), file)
    words = ('--pretrained', file, '--stride', 16, '--shares', 1, 4)
    words += ('--memory', 100, '--mask-size', 50)
    words += ('--classes', 'background', 'bicycle')
    report = evaluate(*words)
    assert report['backbone']['sha256'] == sha256_of(file)
    assert report['backbone']['stride'] == 16
    assert report['settings']['temperature'] == 0.02
    assert report['settings']['size'] == [64, 96]
    knn, match = report['results']['knn'], report['results']['correspondence']
    assert knn['classes'] == ['background', 'bicycle']
    assert knn['shares']['1/1']['train_images'] == 8
    assert knn['shares']['1/4']['train_images'] == 2
    assert 24 <= knn['shares']['1/1']['memory'] <= 100
    iou = knn['shares']['1/1']['iou']
    assert knn['shares']['1/1']['miou'] == pytest.approx(sum(iou.values()) / 2)
    assert match['images'] == 2
    assert 0 <= match['recall_at_1'] <= match['recall_within_1_cell'] <= 1
    printed = capsys.readouterr().out
    assert f'mIoU {knn["shares"]["1/1"]["miou"]:.2f}' in printed
    # The same command gives the same numbers.
    results = evaluate(*words)['results']
    for result in (*results.values(), knn, match):
        del result['seconds']
    assert results == report['results']


def test_own_masks_give_the_results_of_a_known_tree(evaluate, tmp_path):
    words = ('--protocols', 'knn', 'linear', 'correspondence')
    words += ('--linear-epochs', 1)
    names = ['background', 'bicycle']
    expected = evaluate(*words, '--classes', *names)['results']
    own = make_own(tmp_path / 'own', train=8, values=(9, 0, 4))
    words += ('--data', own, '--classes', ','.join(names))
    report = evaluate(*words, '--mask-values', '9,4')
    assert report['settings']['classes'] == names
    assert report['settings']['mask_values'] == [9, 4]
    found = report['results']
    for results, tree in ((expected, 'VOC'), (found, 'own masks')):
        for protocol in ('knn', 'linear'):
            assert results[protocol].pop('tree') == tree
            assert results[protocol]['classes'] == names
        for result in results.values():
            del result['seconds']
    assert found == expected


def test_lists_are_written_with_commas_or_spaces():
    line = ['resnet18', '--pretrained', 'none', '--data', 'd']
    for words, names, values in (
        ('--classes|hard hat,vest|--mask-values|0,9', 'hard hat|vest', [0, 9]),
        ('--classes|hard hat|vest|--mask-values|0|9', 'hard hat|vest', [0, 9]),
        ("--classes|['a, b', 'c']", 'a, b|c', None),
        ('--classes|bed |wall', 'bed |wall', None),  # ADE20K's own name
    ):
        args = parse_args([*line, *words.split('|')])
        assert args.classes == names.split('|')
        assert args.mask_values == values


@pytest.mark.parametrize(('folder', 'images'), [('JPEGImages', 3), ('', 2)])
def test_correspondence_takes_images_without_masks(
    folder, images, evaluate, voc
):
    shutil.rmtree(voc / 'SegmentationClass')
    words = ('--data', voc / folder, '--protocols', 'correspondence')
    report = evaluate(*words, '--val-images', 3)
    assert report['results']['correspondence']['images'] == images
    assert report['backbone']['pretrained'] == 'none'


@pytest.mark.parametrize(
    ('protocol', 'lost'), [('correspondence', 'val1'), ('corloc', 'train2')]
)
def test_missing_images_are_found_at_the_start(protocol, lost, evaluate, voc):
    (voc / f'JPEGImages/{lost}.jpg').unlink()
    with pytest.raises(UserError, match=f'{lost}.jpg, which is missing'):
        evaluate('--protocols', protocol)


def test_boxes_for_images_of_another_size_are_refused(evaluate, voc):
    path = voc / 'JPEGImages/train2.jpg'
    with Image.open(path) as image:
        image.reduce(2).save(path)
    words = 'train2.jpg has 48 x 32 pixels, and its boxes are for 96 x 64'
    with pytest.raises(UserError, match=words):
        evaluate('--protocols', 'corloc')


def test_a_name_that_is_listed_twice_counts_once(evaluate, voc):
    lists = voc / 'ImageSets/Segmentation'
    expected = evaluate('--protocols', 'knn')['results']['knn']
    names = (lists / 'val.txt').read_text().splitlines()
    (lists / 'val.txt').write_text('\n'.join([*names, names[0]]))
    found = evaluate('--protocols', 'knn')['results']['knn']
    assert found['shares'] == expected['shares']
    assert found['val_images'] == expected['val_images']


def test_other_lists_can_be_named(evaluate, voc):
    lists = voc / 'ImageSets/Segmentation'
    names = (lists / 'train.txt').read_text().splitlines()
    (lists / 'fit.txt').write_text('\n'.join(names[3:]))
    (lists / 'held_out.txt').write_text('\n'.join(names[:3]))
    words = ('--train-split', 'fit', '--val-split', 'held_out')
    results = evaluate(*words)['results']
    assert results['knn']['shares']['1/1']['train_images'] == 5
    assert results['knn']['val_images'] == 3
    assert results['correspondence']['images'] == 3


def test_shares_are_nested():
    order = sample_indices(40, None, seed=2)
    assert sorted(order) == list(range(40))
    assert sample_indices(40, 7, seed=2) == order[:7]


@pytest.mark.parametrize(
    ('words', 'sentence'),
    [
        (('--size', '100'), 'multiples'),
        (('--crop-size', '100'), '--crop-size 100'),
        (('--classes', 'cats'), "Did you mean 'cat'"),
        (('--pretrained', 'no.pth'), 'no file of weights'),
        (('--data', '/no'), 'does not exist'),
        (('--classes', 'cat', 'cat'), 'named twice'),
        (('--mask-values', '0,9'), 'mask_values is for masks of your own'),
        (('--device', 'gpu'), '--device gpu cannot be used'),
        (('--classes', 'sofa'), 'No cell of the chosen training'),
        (('--protocols', 'linear', '--train-images', '1'), 'two training'),
        (('--protocols', 'linear', '--classes', 'sofa'), 'None of the pixels'),
    ],
)
def test_mistakes_are_sentences(words, sentence, evaluate, tmp_path):
    with pytest.raises(UserError, match=sentence):
        evaluate('--linear-epochs', 1, *words)
    assert not [*tmp_path.rglob('dense.json')]


def test_values_that_are_no_numbers(evaluate, capsys):
    with pytest.raises(SystemExit):
        evaluate('--mask-values', '0,x')
    assert "'0,x' is not a list of integers" in capsys.readouterr().err


def test_a_negative_seed_is_refused_at_the_start(evaluate, capsys):
    """NumPy, which draws the crops, has none."""
    with pytest.raises(SystemExit):
        evaluate('--seed', -1)
    assert "'-1' is not an integer of at least 0" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize('command', PAGE, ids=[c[2] for c in PAGE])
def test_commands_of_the_page_run(command, voc, tmp_path, monkeypatch):
    """On small data, with a small number of everything."""
    pytest.importorskip('faiss', reason='needs the extra "evaluation"')
    make_cityscapes(tmp_path / 'data/cityscapes')
    shutil.copytree(voc, tmp_path / 'data/VOCdevkit/VOC2012')
    shutil.copytree(voc / 'JPEGImages', tmp_path / 'data/photographs')
    make_own(tmp_path / 'data/rooms')
    make_own(tmp_path / 'data/cracks', values=(0, 255, 255))
    file = tmp_path / 'work_dirs/pixcon_r50_coco/epoch_800.pth'
    file.parent.mkdir(parents=True)
    state = resnet50().state_dict()
    torch.save(dict(state_dict=state), file)
    monkeypatch.setattr(
        pretrained, 'download', lambda net: (state, 'torchvision')
    )
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    monkeypatch.chdir(tmp_path)
    small = ['--size', '64', '--crop-size', '64', '--workers', '0']
    small += ['--linear-epochs', '1', '--clusters', '5', '--out', 'a.json']
    main([*command[2:], *small])
    results = json.loads(Path('a.json').read_text())['results']
    named = (
        command[command.index('--protocols') + 1 :]
        if ('--protocols' in command)
        else ['knn', 'correspondence']
    )
    assert list(results) == named
