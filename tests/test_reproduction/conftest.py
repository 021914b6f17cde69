"""A small plan, and a tool that only pretends to train."""

import sys
from pathlib import Path

import pytest
import yaml

from reproduction import execute, launch
from reproduction.plan import read_plan
from reproduction.status import PlanStatus, Status
from tests import ROOT

PRETRAINED = 'pretrain/sr-toy-seed0'
FINETUNED = 'finetune/seg/sr-toy-seed0'
TEST = 'test/seg/sr-toy-seed0'
# Changes of the plan that halve it.
ONE_SEED = dict(seeds=[0], pretrain_seeds=[0])
# Writes what tools/train.py and tools/test.py write, in milliseconds. A file
# 'fail' or 'sleep' in the folder above makes it do so; 'started' counts.
TOOL = """
import fcntl, hashlib, json, pathlib, sys, time
kind, work_dir, start, seed = sys.argv[1:5]
folder = pathlib.Path(work_dir)
folder.mkdir(parents=True, exist_ok=True)
root = pathlib.Path(sys.argv[5])
with open(root / 'started', 'a') as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    file.write(work_dir + '\\n')
log = folder / f'{time.time_ns()}' / 'vis_data'
log.mkdir(parents=True)
print('hello from', kind)
if kind == 'test':
    text = pathlib.Path(start).read_bytes()
    metrics = {'mIoU': int(hashlib.sha256(text).hexdigest()[:4], 16) / 1e3}
    (folder / 'evaluation.json').write_text(json.dumps(dict(
        sha256=hashlib.sha256(text).hexdigest(), metrics=metrics)))
    sys.exit()
if kind == 'evaluate':
    sha256 = None
    miou = 10.0 + int(seed)
    if start != 'none':
        sha256 = hashlib.sha256(pathlib.Path(start).read_bytes()).hexdigest()
        miou += 5
    shares = {'1/1': dict(miou=miou, iou=dict(cat=3.5)), '1/8': dict(miou=9)}
    (folder / 'dense.json').write_text(json.dumps(dict(
        backbone=dict(sha256=sha256) if sha256 else {},
        results=dict(knn=dict(shares=shares),
                     correspondence=dict(recall_at_1=0.25)))))
    sys.exit()
done = int(sys.argv[6].split('_')[-1][:-4]) if sys.argv[6] else 0
for epoch in range(done + 1, 4):
    with open(log / 'scalars.json', 'a') as file:
        file.write(json.dumps(dict(step=epoch, loss=4.0 - epoch,
                   epoch=epoch, loss_image=4.0 - epoch,
                   images_per_second=10.0, memory=2048)) + '\\n')
    name = folder / f'epoch_{epoch}.pth'
    name.write_text(f'{kind} {start} {seed} {epoch}')
    if (root / 'fail').exists() and epoch == 2:
        print('error: the disk is full.', file=sys.stderr)
        sys.exit(1)
    while (root / 'sleep').exists() and epoch == 2:
        time.sleep(0.02)
"""


def plan_dict(folder: Path, **changes) -> dict:
    """Return random weights and one pre-training, one benchmark, two seeds."""
    data = folder / 'data'
    data.mkdir(exist_ok=True)
    for index in range(3):
        (data / f'{index}.jpg').touch()
    images = dict(title='toys', data=['toy'], options={'data_root': '{toy}/'})
    rows = [dict(methods=['random', 'sr'], pretrain_sets=['toy'])]
    plan = dict(
        title='Toy',
        work_dir=str(folder / 'runs'),
        seeds=[0, 1],
        pretrain_seeds=[0, 1],
        data=dict(toy=dict(root=str(data), files={'*.jpg': 3})),
        pretrain_sets=dict(toy=images),
        methods=methods(),
        benchmarks=segmentation(),
        tables=dict(main=dict(title='Main', rows=rows, benchmarks=['seg'])),
    )
    return {**plan, **changes}


def segmentation(**changes) -> dict:
    benchmark = dict(
        title='Segmentation',
        protocol='a protocol',
        config='configs/segmentation/fcn_r18_demo.py',
        data=['toy'],
        metrics=dict(mIoU=dict(title='mIoU')),
    )
    return dict(seg={**benchmark, **changes})


def methods(**changes) -> dict:
    """Return the methods of the plan, with changes of the pre-training."""
    config = 'configs/pretrain/pixcon_r18_demo.py'
    return dict(
        random=dict(title='Random', weights='none'),
        sr={'title': 'PixCon-SR', 'config': config, **changes},
    )


def write_plan(folder: Path, **changes) -> Path:
    path = folder / 'plan.yaml'
    path.write_text(yaml.safe_dump(plan_dict(folder, **changes)))
    return path


def status_of(folder: Path, **changes) -> PlanStatus:
    return PlanStatus(read_plan(write_plan(folder, **changes)))


def own(status: PlanStatus, name: str) -> Status:
    return status.status(status.runs[name])


def metrics_of(status: PlanStatus, name: str) -> dict:
    return status.run_dir(status.runs[name]).read('metrics.json')


@pytest.fixture(autouse=True)
def _root(monkeypatch):
    """Run in the root of the repository, where plans find configs."""
    monkeypatch.chdir(ROOT)


@pytest.fixture
def fake_tools(tmp_path, monkeypatch):
    """Run the pretending tool; yields a count of starts by run."""
    tool = tmp_path / 'tool.py'
    tool.write_text(TOOL)

    def line(status, run, processes=None):
        run_dir = status.run_dir(run)
        start = run.weights or 'nothing'
        if run.parent:
            start = str(status.checkpoint(run.parent))
        words = [run.kind, str(run_dir.path), start, str(run.seed)]
        words += [str(tmp_path), str(run_dir.newest_checkpoint() or '')]
        return [sys.executable, str(tool), *words]

    monkeypatch.setattr(execute, 'build_command', line)
    monkeypatch.setattr(execute, 'WAIT', 0.05)
    monkeypatch.setattr(launch, 'POLL', 0.01)

    def started() -> dict[str, int]:
        counts: dict[str, int] = {}
        file = tmp_path / 'started'
        for path in file.read_text().split() if file.exists() else ():
            name = path.partition('/runs/')[2]
            counts[name] = counts.get(name, 0) + 1
        return counts

    return started
