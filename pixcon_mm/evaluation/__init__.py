"""Dense evaluation of frozen features, without fine-tuning of the backbone.

docs/evaluation.md describes the protocols. Importing this package imports
none of OpenMMLab's frameworks; its modules do so when they need one.
"""
