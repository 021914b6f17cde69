"""PixCon pre-training on scene images, for OpenMMLab."""
