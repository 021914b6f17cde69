"""Metrics of the frameworks, extended by their values for each class.

``detection`` and ``segmentation`` import a framework, so :func:`with_classes`
imports them only when a config needs them.
"""

import importlib

# From a framework's metric to the class here that replaces it.
REPLACED = dict(
    CocoMetric='detection.PerClassCocoMetric',
    VOCMetric='detection.PerClassVOCMetric',
    IoUMetric='segmentation.PerClassIoUMetric',
)


def with_classes(evaluator: object) -> object:
    """Replace an evaluator's metrics by classes that keep values per class.

    Args:
        evaluator (object): ``val_evaluator`` or ``test_evaluator``: the dict
            of a metric, a list of such dicts, or a dict with ``metrics``.

    Returns:
        object: The same, with another ``type`` for metrics in ``REPLACED``;
        the new types take the same arguments and return the same metrics, AP
        without rounding.
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
