"""A small plan, and tools that only pretend to train."""

import hashlib
import json
import sys
from pathlib import Path

import pytest
import yaml

from reproduction import attempt, command, execute
from reproduction.plan_file import read_plan
from reproduction.state import Survey

PRETRAIN = 'configs/pretrain/pixcon_r18_demo.py'
SEGMENT = 'configs/segmentation/fcn_r18_demo.py'

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
done = int(sys.argv[6].split('_')[-1][:-4]) if sys.argv[6] else 0
for epoch in range(done + 1, 4):
    with open(log / 'scalars.json', 'a') as file:
        file.write(json.dumps(dict(step=epoch, loss=4.0 - epoch,
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
    """Random weights and one pre-training, one benchmark, two seeds."""
    data = folder / 'data'
    data.mkdir(exist_ok=True)
    for index in range(3):
        (data / f'{index}.jpg').touch()
    plan = dict(
        title='Toy',
        work_dir=str(folder / 'runs'),
        seeds=[0, 1],
        pretrain_seeds=[0, 1],
        data=dict(toy=dict(root=str(data), files={'*.jpg': 3})),
        pretrain_sets=dict(
            toy=dict(
                title='toys', data=['toy'], options={'data_root': '{toy}/'}
            )
        ),
        methods=methods(),
        benchmarks=segmentation(),
        tables=dict(
            main=dict(
                title='Main',
                rows=[dict(methods=['random', 'sr'], sets=['toy'])],
                benchmarks=['seg'],
            )
        ),
    )
    plan.update(changes)
    return plan


def segmentation(**changes) -> dict:
    """The benchmark of the plan."""
    benchmark = dict(
        title='Segmentation',
        protocol='a protocol',
        config=SEGMENT,
        data=['toy'],
        metrics=dict(mIoU=dict(title='mIoU')),
    )
    return dict(seg=dict(benchmark, **changes))


def methods(**changes) -> dict:
    """The methods of the plan; changes are of the pre-training."""
    return dict(
        random=dict(title='Random', weights='none'),
        sr=dict(dict(title='PixCon-SR', config=PRETRAIN), **changes),
    )


def write_plan(folder: Path, **changes) -> Path:
    """The plan as a file."""
    path = folder / 'plan.yaml'
    path.write_text(yaml.safe_dump(plan_dict(folder, **changes)))
    return path


def survey_of(folder: Path, **changes) -> Survey:
    """The plan and its state."""
    return Survey(read_plan(write_plan(folder, **changes)))


@pytest.fixture
def fake_tools(tmp_path, monkeypatch):
    """Runs take the pretending tool; gives a count of starts by run."""
    tool = tmp_path / 'tool.py'
    tool.write_text(TOOL)

    def line(survey, run, processes=None):
        if run.kind == 'test':
            start = survey.checkpoint(survey.runs[run.needs])
        elif run.kind == 'finetune':
            start = command.start(survey, run)
        else:
            start = 'nothing'
        where = str(survey.folder(run).path)
        words = [run.kind, where, str(start), str(run.seed), str(tmp_path)]
        words.append(str(survey.folder(run).newest_checkpoint() or ''))
        return [sys.executable, str(tool), *words]

    monkeypatch.setattr(execute, 'command', line)
    monkeypatch.setattr(execute, 'WAIT', 0.05)
    monkeypatch.setattr(attempt, 'POLL', 0.01)

    def started() -> dict[str, int]:
        counts: dict[str, int] = {}
        file = tmp_path / 'started'
        for path in file.read_text().split() if file.exists() else ():
            name = path.partition('/runs/')[2]
            counts[name] = counts.get(name, 0) + 1
        return counts

    return started


def sha256(path: Path) -> str:
    """Of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def tamper(path: Path, old: str, new: str) -> None:
    """Change a file by hand."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def metrics_of(survey: Survey, name: str) -> dict:
    """Content of a metrics file."""
    file = survey.folder(survey.runs[name]).metrics_file
    return json.loads(file.read_text())['content']
