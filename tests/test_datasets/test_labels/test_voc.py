"""VOC's XML: each problem gives its sentence."""

import pytest
from mmdet.datasets import XMLDataset
from PIL import Image

from pixcon_mm.datasets.xml_folder import XMLFolderDataset
from tests.benchmarks import voc_object, voc_xml

NAMES = ('cat', 'dog')
WIDTH, HEIGHT = 20, 10


def item(name='cat', box=(3, 3, 8, 6), difficult=0):
    return voc_object(name, box, difficult)


def annotation(*objects, size=(WIDTH, HEIGHT)):
    return voc_xml(*objects, size=size)


@pytest.fixture
def check(tmp_path, sentences):
    """Write two images, the first with an XML of its own."""

    def _check(
        first,
        listed='a\nb\n',
        without=(),
        kind=XMLDataset,
        loader='train_dataloader',
        images=('a', 'b'),
        **options,
    ):
        for folder in ('JPEGImages', 'Annotations'):
            (tmp_path / folder).mkdir(exist_ok=True)
        for name in images:
            path = tmp_path / f'JPEGImages/{name}.jpg'
            Image.new('RGB', (WIDTH, HEIGHT)).save(path)
        both = annotation(item('cat'), item('dog', (1, 1, 20, 10)))
        (tmp_path / 'Annotations/b.xml').write_text(both)
        (tmp_path / 'Annotations/a.xml').write_text(first)
        (tmp_path / 'list.txt').write_text(listed)
        for name in without:
            (tmp_path / name).unlink()
        dataset = kind(
            data_root=str(tmp_path),
            ann_file='list.txt',
            data_prefix=dict(sub_data_root=''),
            lazy_init=True,
            **{'metainfo': dict(classes=NAMES), **options},
        )
        return sentences('voc', dataset, loader)

    return _check


def test_files_without_problems(check, tmp_path):
    found = check(annotation())
    assert found['stop'] == found['warning'] == []
    assert found['note'] == [
        f'{tmp_path}/list.txt: 2 images, 2 objects '
        '(0 marked difficult); 1 without objects.'
    ]
    # Nor is a size needed.
    found = check('<annotation></annotation>')
    assert found['stop'] == found['warning'] == []


def test_a_name_that_is_listed_twice(check, tmp_path):
    (warning,) = check(annotation(), listed='a\nb\na\n')['warning']
    assert warning.startswith(f'{tmp_path}/list.txt: 1 of 2 images is listed')
    assert '(the first: a)' in warning


@pytest.mark.parametrize(
    ('first', 'words'),
    [
        (annotation()[:40], 'is not complete XML'),
        (annotation(size=('', 10)), 'size without whole numbers'),
        (annotation('<object><name>cat</name></object>'), 'has no bndbox'),
        (annotation(item(box=('x', 1, 2, 3))), 'has no bndbox'),
        (annotation(item(name='')), 'an object has no name'),
        (annotation(item(difficult='no')), "'cat' has difficult 'no'"),
        (annotation(item(difficult='')), "'cat' has difficult ''"),
    ],
)
def test_what_cannot_be_read(check, tmp_path, first, words):
    (sentence,) = check(first)['stop']
    assert sentence.startswith(f'{tmp_path}/Annotations/a.xml')
    assert words in sentence


def test_all_images_that_cannot_be_read_are_counted(check, tmp_path):
    check(annotation())
    for name in ('a', 'b'):
        (tmp_path / f'JPEGImages/{name}.jpg').write_bytes(b'none')
    found = check(annotation(), images=())
    (sentence,) = found['stop']
    assert '2 of 2 images cannot be read (the first: ' in sentence
    assert found['note']


@pytest.mark.parametrize(
    ('listed', 'words'),
    [('a\n\nb\n', 'line 2 is empty'), ('\ufeffa\n', 'byte order mark')],
)
def test_lists_that_cannot_be_read(check, listed, words):
    (sentence,) = check(annotation(), listed=listed)['stop']
    assert words in sentence


@pytest.mark.parametrize(
    ('path', 'words'),
    [
        ('JPEGImages/a.jpg', '1 of 2 images is not there (the first: '),
        ('Annotations/b.xml', '1 of 2 XML files is not there (the first: '),
    ],
)
def test_missing_files(check, tmp_path, path, words):
    (sentence,) = check(annotation(), without=[path])['stop']
    assert f'{words}{tmp_path}/{path}' in sentence


def test_images_of_another_suffix(check, tmp_path):
    (tmp_path / 'JPEGImages').mkdir()
    (tmp_path / 'JPEGImages/a.png').touch()
    (sentence,) = check(annotation(), without=['JPEGImages/a.jpg'])['stop']
    assert f'There is {tmp_path}/JPEGImages/a.png' in sentence
    assert 'takes .jpg only' in sentence
    # The data set of the configs for own data takes any.
    Image.new('RGB', (WIDTH, HEIGHT)).save(tmp_path / 'JPEGImages/a.png')
    without, kind = ['JPEGImages/a.jpg'], XMLFolderDataset
    found = check(annotation(), without=without, kind=kind)
    assert found['stop'] == found['warning'] == []
    without.append('JPEGImages/a.png')
    found = check(annotation(), without=without, kind=kind)
    assert '1 of 2 images is not there' in found['stop'][0]


def test_class_names(check):
    (sentence,) = check(annotation(item('cow')))['warning']
    assert '1 of 3 objects is left out, as no class has the name' in sentence
    metainfo = dict(classes=('Cat', 'Dog'))
    (sentence,) = check(annotation(), metainfo=metainfo)['stop']
    assert "names of the files: 'cat' and 'dog'" in sentence
    assert "class names of the config: 'Cat' and 'Dog'" in sentence


def test_no_object_at_all(check):
    for level, indices in (('stop', None), ('warning', 1)):
        found = check(annotation(), 'a\n', indices=indices)
        assert 'have no object' in found[level][0]


def test_difficult_objects_are_counted(check, tmp_path):
    unmarked = item().replace('<difficult>0</difficult>', '')
    found = check(
        annotation(item(difficult=1), unmarked, item('cow', difficult=1))
    )
    assert '4 objects (1 marked difficult); 0 without' in found['note'][0]
    assert found['stop'] == []


def test_difficult_objects_alone_are_not_learned(check):
    first = annotation(item(difficult=1), item('dog', difficult=1))
    (sentence,) = check(first, 'a\n')['stop']
    assert 'all objects are marked difficult' in sentence
    for options in (dict(loader='val_dataloader'), dict(indices=1)):
        found = check(first, 'a\n', **options)
        assert 'all objects are marked difficult' in found['warning'][0]
        assert found['stop'] == []
    assert check(first)['stop'] == []  # b.xml has others


@pytest.mark.parametrize(
    ('box', 'level', 'words'),
    [
        ((0, 3, 8, 6), 'warning', 'starts at 0'),
        ((3, 3, 25, 6), 'warning', 'lies partly outside'),
        ((-4, 3, 8, 6), 'warning', 'lies partly outside'),
        ((8, 3, 8, 6), 'stop', 'has no area'),
        ((8, 3, 3, 6), 'stop', 'has no area'),
    ],
)
def test_odd_boxes(check, tmp_path, box, level, words):
    (sentence,) = check(annotation(item(box=box)))[level]
    place = f"{tmp_path}/Annotations/a.xml, 'cat' {[*box]}"
    assert f'1 of 3 boxes {words} (the first: {place}' in sentence


def test_sizes_that_disagree(check, tmp_path):
    (sentence,) = check(annotation(size=(40, 20)))['warning']
    place = f'{tmp_path}/Annotations/a.xml, 40 x 20, the image 20 x 10'
    assert place in sentence
