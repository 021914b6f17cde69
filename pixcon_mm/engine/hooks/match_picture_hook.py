"""Pictures of what a model matches while it is being trained."""

import time

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from pixcon_mm.engine.hooks.dense_probe_hook import is_due, sample_images
from pixcon_mm.engine.model_state import unwrap
from pixcon_mm.errors import UserError, explain
from pixcon_mm.wording import counted


@HOOKS.register_module()
class MatchPictureHook(Hook):
    """Draw crops, matches and weights of a few images after some epochs.

    The images and their views are the same each time; the figures are those
    of ``tools/visualize.py`` (docs/evaluation.md, section 7). They go to all
    backends of the runner's visualizer: TensorBoard and ``vis_data/`` of
    the work directory. The training is the same, bit for bit, with and
    without it.

    Args:
        interval (int): Epochs between two drawings; the last epoch has one,
            too.
        num_images (int): Images of the training set.
    """

    priority = 'LOW'

    def __init__(self, interval: int = 10, num_images: int = 4):
        if min(interval, num_images) < 1:
            raise UserError(
                'MatchPictureHook: interval and num_images must be at least 1.'
            )
        self.interval, self.num_images = interval, num_images

    def before_train(self, runner: Runner) -> None:
        """Choose the images; stop if there are no matches to draw."""
        if not hasattr(unwrap(runner.model), 'key_encoder'):
            raise UserError(
                'MatchPictureHook draws what PixCon matches, and this model '
                f'is a {type(unwrap(runner.model)).__name__}: leave it out.'
            )
        dataset = runner.train_dataloader.dataset
        if not hasattr(dataset, 'pipeline'):
            raise UserError(
                'MatchPictureHook draws views of the pipeline of the training '
                f'set, and a {type(dataset).__name__} has none: give several '
                'folders to one SceneImageDataset (data_root as a list), or '
                'leave the hook out.'
            )
        self._paths = sample_images(runner, self.num_images)

    @master_only
    def after_train_epoch(self, runner: Runner) -> None:
        """Draw, or say in the log why this failed, and continue."""
        if not is_due(self, runner):
            return
        try:
            self._draw(runner)
        except Exception as error:
            reason = explain(error) or f'{type(error).__name__}: {error}'
            runner.logger.warning(
                f'no pictures after epoch {runner.epoch + 1}: {reason}'
            )

    def _draw(self, runner: Runner) -> None:
        """Draw, and pass the pictures to the visualizer."""
        # These import MMPretrain and matplotlib, which only this needs.
        from pixcon_mm.visualization.figures import PAIR_FIGURES, as_pixels
        from pixcon_mm.visualization.matching import match_photographs

        start = time.monotonic()
        model = unwrap(runner.model)
        kinds = dict(PAIR_FIGURES)
        if model.dense_queue is None:
            del kinds['weights']
        pairs = match_photographs(
            model,
            runner.train_dataloader.dataset.pipeline,
            self._paths,
        )
        for number, pair in enumerate(pairs, 1):
            for kind, draw in kinds.items():
                name = f'{kind}_{number}'
                picture = as_pixels(draw(pair))
                runner.visualizer.add_image(name, picture, step=runner.iter)
        runner.logger.info(
            f'pictures after epoch {runner.epoch + 1}: {", ".join(kinds)} of '
            f'{counted(len(pairs), "image")} '
            f'({time.monotonic() - start:.1f} s)'
        )
