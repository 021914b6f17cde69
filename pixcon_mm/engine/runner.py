"""MMEngine's Runner, for any machine, with checkpoints that are safe."""

import logging
import os
from datetime import timedelta
from pathlib import Path

import torch
from mmengine.dist import (
    all_gather_object,
    broadcast_object_list,
    is_distributed,
    master_only,
)
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import OPTIMIZERS, RUNNERS
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner
from mmengine.visualization import Visualizer
from torch import nn
from torch.utils.data import DataLoader

from pixcon_mm.engine.checkpointing import (
    gather_checkpoint,
    load_fitting_weights,
    save_finite,
)
from pixcon_mm.engine.hooks.missed_validation_hook import (
    MissedValidationHook,
)
from pixcon_mm.engine.hooks.reproducible_resume_hook import (
    ReproducibleResumeHook,
)
from pixcon_mm.engine.hooks.run_summary_hook import RunSummaryHook
from pixcon_mm.engine.hooks.runtime_info_hook import DeferredRuntimeInfoHook
from pixcon_mm.engine.hooks.same_buffers_hook import SameBuffersHook
from pixcon_mm.engine.hooks.stop_signal_hook import StopSignalHook
from pixcon_mm.engine.log_line import (
    TerminalFormatter,
    batch_size,
    is_readable,
)
from pixcon_mm.engine.model_state import (
    LayoutCheck,
    check_batch_norms,
    find_non_finite,
    unwrap,
    zero_momentum,
)
from pixcon_mm.engine.network import check_own_name, share_interface
from pixcon_mm.engine.precision import fit_precision
from pixcon_mm.engine.resuming import find_start, restore_run
from pixcon_mm.errors import UserError, suggest
from pixcon_mm.metrics import with_classes
from pixcon_mm.processes import WorkerStart, worker_watch
from pixcon_mm.wording import counted

OUR_HOOKS = dict(
    RuntimeInfoHook='DeferredRuntimeInfoHook',
    CheckpointHook='WholeCheckpointHook',
)


@RUNNERS.register_module()
class PixConRunner(Runner):
    """Runner for all three tasks, on machines with or without a GPU.

    Without CUDA it uses gloo, replaces SyncBN by BN, and float16 by float32;
    the log has a line about each. It does not scale losses in bfloat16. It
    scales the learning rate by the batch of an optimiser step, which includes
    gradient accumulation.

    Its checkpoints are complete, finite and free of code, and a file that has
    code is not loaded. A run can resume at any iteration, with a config that
    has changed. A signal stops it after a checkpoint.

    Attributes:
        saved_iter (int | None): Iterations done at the last checkpoint.
        unbounded (set[str]): Names of buffers that are not finite in the
            new model, such as masks of minus infinity; they may stay so.
    """

    def __init__(self, *args, **kwargs):
        self.saved_iter: int | None = None
        super().__init__(*args, **kwargs)
        buffers = dict(unwrap(self.model).named_buffers())
        self.unbounded = {*find_non_finite(buffers)}
        self.register_hook(RunSummaryHook())
        self._stop_hook = StopSignalHook()
        self.register_hook(self._stop_hook)
        self.register_hook(MissedValidationHook())
        self.register_hook(SameBuffersHook())

    def register_hook(self, hook: Hook | dict, *args, **kwargs) -> None:
        """Replace two of MMEngine's hooks, which take the same arguments."""
        if isinstance(hook, dict) and hook.get('type') in OUR_HOOKS:
            hook = dict(hook, type=OUR_HOOKS[hook['type']])
        super().register_hook(hook, *args, **kwargs)

    def train(self) -> nn.Module:
        """Train; meanwhile, a signal saves and stops the run."""
        try:
            return super().train()
        finally:
            self._stop_hook.request.stop_listening()

    def setup_env(self, env_cfg: dict) -> None:
        """Start the process group: gloo on a machine without CUDA."""
        # Even with NCCL, processes agree on a stop through gloo.
        share_interface()
        has_cuda = torch.cuda.is_available()
        if self.distributed and not is_distributed() and not has_cuda:
            if self.launcher != 'pytorch':
                raise UserError(
                    f'Launcher {self.launcher!r} needs CUDA, and this node '
                    'has none: use tools/dist_train.sh (torchrun) on CPU.'
                )
            check_own_name()
            # Started here, because MMEngine would select a CUDA device first.
            seconds = env_cfg.get('dist_cfg', {}).get('timeout', 1800)
            torch.distributed.init_process_group(
                'gloo', timeout=timedelta(seconds=seconds)
            )
        if self.distributed and has_cuda and not is_distributed():
            rank = int(os.environ.get('LOCAL_RANK', 0))
            count = torch.cuda.device_count()
            if rank >= count:
                raise UserError(
                    f'This machine has {counted(count, "GPU")} for '
                    f'{rank + 1} processes or more: start as many as there '
                    'are GPUs, and check CUDA_VISIBLE_DEVICES (with Slurm, '
                    '--gpu-bind=none lets each process see all GPUs).',
                    is_own=rank == count,
                )
        if (self.cfg.get('randomness') or {}).get('deterministic'):
            # Deterministic matrix products of CUDA need it from the start.
            os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
        super().setup_env(env_cfg)

    def build_logger(self, *args, **kwargs) -> logging.Logger:
        """Keep dumps and long lines in the log file, off the terminal."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:
                handler.addFilter(is_readable)
                handler.setFormatter(TerminalFormatter())
        return logger

    def build_visualizer(self, visualizer=None) -> Visualizer:
        """Build a visualiser that belongs to this run alone.

        OpenMMLab's tools need a ``name`` in the config, but visualisers with
        the same name are one object, which would write into the first run's
        folder. The experiment's name would not do: runs that start in the
        same second share it.
        """
        if isinstance(visualizer, dict):
            visualizer = dict(visualizer, name=self._log_dir)
        return super().build_visualizer(visualizer)

    def build_evaluator(self, evaluator) -> Evaluator:
        """Build the evaluator, with metrics that keep the values per class."""
        evaluator = super().build_evaluator(with_classes(evaluator))
        for number, metric in enumerate(evaluator.metrics):
            if metric.collect_device == 'cpu' and metric.collect_dir is None:
                # Processes exchange results through files. MMEngine would
                # write them to the current directory. Each metric has a
                # folder, as storage may show one that was just deleted.
                metric.collect_dir = f'{self.log_dir}/results_{number}'
        return evaluator

    def wrap_model(self, model_wrapper_cfg, model: nn.Module) -> nn.Module:
        """Wrap for DDP; on the CPU, replace SyncBN, which needs CUDA.

        Raises:
            UserError: If the config has ``sync_bn`` and the model has batch
                norms that cannot be replaced.
        """
        if self.distributed and self.cfg.get('sync_bn'):
            check_batch_norms(model)
        optim_wrapper = self.cfg.get('optim_wrapper') or {}
        steps = optim_wrapper.get('accumulative_counts', 1)
        if model_wrapper_cfg and steps > 1:
            # A static graph fails if the first batch exchanges no gradients.
            model_wrapper_cfg = dict(model_wrapper_cfg)
            model_wrapper_cfg.pop('static_graph', None)
        if not self.distributed or torch.cuda.is_available():
            return super().wrap_model(model_wrapper_cfg, model)
        self.cfg.pop('sync_bn', None)  # it would convert to SyncBN
        if any(isinstance(m, nn.SyncBatchNorm) for m in model.modules()):
            self.logger.info(
                'SyncBN needs CUDA: it runs as BN, with statistics of each '
                "process's own batch."
            )
            model = revert_sync_batchnorm(model)
        wrapper = dict(
            type='MMDistributedDataParallel',
            broadcast_buffers=False,
            find_unused_parameters=self.cfg.get(
                'find_unused_parameters', False
            ),
        )
        wrapper.update(model_wrapper_cfg or {})
        return super().wrap_model(dict(wrapper, device_ids=None), model)

    @staticmethod
    def build_dataloader(dataloader, *args, **kwargs) -> DataLoader:
        """Build a loader whose workers ignore the signals that stop a run."""
        loader = Runner.build_dataloader(dataloader, *args, **kwargs)
        if not isinstance(loader.worker_init_fn, WorkerStart):
            start = WorkerStart(loader.worker_init_fn, loader.num_workers)
            loader.worker_init_fn = start
            if loader.num_workers and loader.timeout:
                worker_watch().add(start, loader.timeout)
        return loader

    def build_train_loop(self, loop) -> BaseLoop:
        """Build the loop; stop if processes lack images, or differ in them."""
        if isinstance(loop, dict) and any(
            isinstance(hook, ReproducibleResumeHook) for hook in self.hooks
        ):
            default = 'EpochBasedTrainLoop' if loop.get('by_epoch') else None
            if loop.get('type', default) == 'EpochBasedTrainLoop':
                loop = {k: v for k, v in loop.items() if k != 'by_epoch'}
                loop['type'] = 'ResumableEpochLoop'
        loop = super().build_train_loop(loop)
        loader = loop.dataloader
        sizes = all_gather_object(len(loader.dataset))
        if len({*sizes}) > 1:
            other = next(n for n, size in enumerate(sizes) if size != sizes[0])
            raise UserError(
                f'The training set has {counted(sizes[0], "image")} for '
                f'process 0 and {sizes[other]:,} for process {other}: all '
                'machines of a run need the same files.'
            )
        # A loop over iterations can repeat a few images without end, but
        # with an empty data set it would search for ever.
        by_epoch = isinstance(loop, EpochBasedTrainLoop)
        if len(loader if by_epoch else loader.dataset) == 0:
            raise UserError(
                f'The training set has {len(loader.dataset)} images, too '
                f'few for a batch of {batch_size(loader)} in '
                f'{counted(self.world_size, "process")}: lower '
                'train_dataloader.batch_size or add images.'
            )
        if loop.max_iters < 1:
            raise UserError(
                'The run would have no iteration: set train_cfg.max_epochs or '
                'max_iters to 1 or more.'
            )
        return loop

    def build_optim_wrapper(self, optim_wrapper) -> OptimWrapper:
        """Build the optimiser, with a precision that this machine has."""
        if not isinstance(optim_wrapper, dict):
            return super().build_optim_wrapper(optim_wrapper)
        name = (optim_wrapper.get('optimizer') or {}).get('type')
        if isinstance(name, str) and OPTIMIZERS.get(name) is None:
            raise UserError(
                f'The config has optimizer type={name!r}, and no optimizer of '
                'that name is registered.'
                f'{suggest(name, list(OPTIMIZERS.module_dict))}'
            )
        steps = optim_wrapper.get('accumulative_counts', 1)
        if not isinstance(steps, int) or steps < 1:
            raise UserError(
                f'optim_wrapper.accumulative_counts={steps} must be a whole '
                'number above 0: it is the number of batches whose gradients '
                'make a step.'
            )
        if optim_wrapper.get('type') == 'AmpOptimWrapper':
            optim_wrapper = fit_precision(dict(optim_wrapper))
        wrapper = super().build_optim_wrapper(optim_wrapper)
        if isinstance(wrapper, OptimWrapperDict):
            raise UserError(
                'The config has several optimizers, and this runner trains '
                'with one: put all parameters into one, with paramwise_cfg '
                'for different settings.'
            )
        names = {p: n for n, p in self.model.named_parameters()}
        zero_momentum(wrapper.optimizer)
        LayoutCheck(wrapper.optimizer, names)
        return wrapper

    def scale_lr(self, optim_wrapper, auto_scale_lr=None) -> None:
        """Scale the rate by the number of images of an optimiser step."""
        if auto_scale_lr and auto_scale_lr.get('enable'):
            steps = optim_wrapper._accumulative_counts
            base = auto_scale_lr['base_batch_size'] / steps
            auto_scale_lr = dict(auto_scale_lr, base_batch_size=base)
        groups = optim_wrapper.optimizer.param_groups
        before = [group['lr'] for group in groups]
        super().scale_lr(optim_wrapper, auto_scale_lr)
        # With several groups, the log also has MMEngine's base rate, which
        # it does not scale.
        settings = optim_wrapper.base_param_settings
        pairs = zip(groups, before, strict=True)
        ratios = [group['lr'] / rate for group, rate in pairs if rate]
        if settings is not None and ratios:
            settings['lr'] *= ratios[0]

    @master_only
    def save_checkpoint(
        self,
        out_dir: str,
        filename: str,
        file_client_args: dict | None = None,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        meta: dict | None = None,
        by_epoch: bool = True,
        backend_args: dict | None = None,
    ) -> None:
        """Save a checkpoint, complete or not at all, as a local file.

        Takes the arguments of MMEngine's Runner; those of file backends are
        not used. Without the optimiser it cannot be resumed from.

        Raises:
            UserError: If a value in it is not finite. Nothing is written.
        """
        for hook in self.hooks:
            if isinstance(hook, DeferredRuntimeInfoHook):
                hook.read(self)
        done = (
            dict(epoch=self.epoch + 1, iter=self.iter)
            if by_epoch
            else dict(epoch=self.epoch, iter=self.iter + 1)
        )
        checkpoint = gather_checkpoint(
            self,
            {**done, **(meta or {})},
            save_optimizer,
            save_param_scheduler,
        )
        self.call_hook('before_save_checkpoint', checkpoint=checkpoint)
        save_finite(checkpoint, Path(out_dir) / filename, self.unbounded)
        if save_optimizer:
            self.saved_iter = checkpoint['meta']['iter']

    def load_or_resume(self) -> None:
        """Resume, load a whole model's weights, or neither, by the config."""
        if self._has_loaded:
            return
        if self._resume:
            # All processes resume from what the first one has found.
            start = [None]
            if self.rank == 0:
                # With 'auto', load_from is for a run that has no checkpoint.
                is_named = self._resume != 'auto' and self._load_from
                start = [self._load_from if is_named else find_start(self)]
            broadcast_object_list(start)
            if start[0] is not None:
                self.resume(str(start[0]))
                return
        if self._load_from is not None:
            self.load_checkpoint(self._load_from)

    def resume(self, filename: str, *args, **kwargs) -> None:
        """Continue from a checkpoint, a local file, with the current config.

        Raises:
            UserError: If it is damaged, holds code, or is for another model.
        """
        restore_run(self, Path(filename))
        self._has_loaded = True

    def load_checkpoint(self, filename: str, *args, **kwargs) -> dict:
        """Fill the model from a local file of weights, as far as they fit.

        Returns:
            dict: ``state_dict``, the tensors of the file.

        Raises:
            UserError: If it is damaged, holds code, nothing fits, or a value
                is not finite.
        """
        checkpoint = load_fitting_weights(self, filename)
        self._has_loaded = True
        return checkpoint
