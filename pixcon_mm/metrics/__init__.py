"""Metrics of the frameworks that keep their values for each class.

Each module imports a framework, so :func:`with_classes` imports them late.
"""

import importlib

# Class of a framework, and the one here that takes its place.
REPLACED = dict(
    CocoMetric='detection.PerClassCocoMetric',
    VOCMetric='detection.PerClassVOCMetric',
    IoUMetric='segmentation.PerClassIoUMetric',
)


def with_classes(evaluator: object) -> object:
    """Replace an evaluator's metrics by those with values for each class.

    Args:
        evaluator (object): ``val_evaluator`` or ``test_evaluator``: the dict
            of a metric, a list of these, or a dict with ``metrics``.

    Returns:
        object: The same with another ``type`` where there is one that takes
        the same arguments and returns the same metrics.
    """
    if isinstance(evaluator, list | tuple):
        return [with_classes(metric) for metric in evaluator]
    if not isinstance(evaluator, dict):
        return evaluator
    if 'metrics' in evaluator:
        return dict(evaluator, metrics=with_classes(evaluator['metrics']))
    name = evaluator.get('type')
    place = isinstance(name, str) and REPLACED.get(name.split('.')[-1])
    if not place:
        return evaluator
    module, _, kind = place.partition('.')
    found = importlib.import_module(f'pixcon_mm.metrics.{module}')
    return dict(evaluator, type=getattr(found, kind))
