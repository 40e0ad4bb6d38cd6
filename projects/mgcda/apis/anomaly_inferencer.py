# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Anomaly scores of one's own images."""
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.infer import BaseInferencer
from mmengine.structures import PixelData
from mmseg.models import BaseSegmentor
from mmseg.structures import SegDataSample

from mgcda.datasets.transforms.load_image import LoadImage
from mgcda.labels import NUM_CITYSCAPES_CLASSES
from mgcda.structures import resize_nearest
from mgcda.utils.configs import read_config
from mgcda.visualization import ScoreScaling, blend_heat, check_window, colour_heat, draw_boxes, scaling_of
from mgcda.visualization.score_scaling import HeatRange

from .anomaly_result import AnomalyResult, Prediction
from .boxes import find_boxes, near_road
from .inference import image_steps, init_model
from .inference_run import InferenceRun, WindowClosed
from .inputs import ImageType, list_images
from .result_folder import ResultFolder


class LoadedImage(NamedTuple):
    """An image as it was read, BGR uint8 (H, W, 3), and as its pipeline packed it; None where it is not to be drawn."""
    name: str
    image: np.ndarray | None
    inputs: torch.Tensor
    data_sample: SegDataSample


class AnomalyInferencer(BaseInferencer):
    """Score one's own images with any anomaly segmentor of the project.

    In the manner of MMSegmentation's ``MMSegInferencer``:

        >>> inferencer = AnomalyInferencer('configs/mgcda_cityscapes.py', 'checkpoints/mgcda.pth')
        >>> result = inferencer('street.jpg')['predictions'][0]
        >>> result.anomaly_scores.shape  # that of the image

    Images are loaded by the test pipeline of the config, less its labels and its files of maps: a dissimilarity
    network makes its maps online.

    Args:
        model: Config file or Config, with a test pipeline.
        weights: Checkpoint of a training, or a published one; None leaves random weights.
        device: As of torch; None takes a GPU where there is one.
        cfg_options: Entries that replace those of the config.
        score: The score to take of a model with several; None takes the first.
        heat_range: How scores become colours, see :func:`mgcda.visualization.scaling_of`.
        amp: Run the networks in half precision: float16 on a GPU, bfloat16 on a CPU.
        show_progress: Print a progress bar.

    Raises:
        FileNotFoundError: No such config or checkpoint.
        ValueError: The config has no test pipeline, or builds no anomaly segmentor; the checkpoint does not fit it; the
            model has no such score.
    """

    def __init__(self,
                 model: str | os.PathLike | Config,
                 weights: str | None = None,
                 device: str | None = None,
                 cfg_options: dict | None = None,
                 score: str | None = None,
                 heat_range: HeatRange = 'auto',
                 amp: bool = False,
                 show_progress: bool = False) -> None:
        cfg = read_config(model, cfg_options)
        self.steps = image_steps(cfg)
        scaling_of(None, 2, heat_range)  # a wrong range is an error before the model is built
        if weights is None:
            warnings.warn('no weights are given: those of the model are random', stacklevel=2)
        super().__init__(cfg, weights, device, scope=cfg.get('default_scope', 'mmseg'), show_progress=show_progress)
        self.amp = amp
        self.score_names: tuple[str, ...] = tuple(self.model.scores)
        self.score_name = self.score_names[0] if score is None else score
        if self.score_name not in self.score_names:
            raise ValueError(f'the model has no score {score!r}, but {", ".join(self.score_names)}')
        score_range = self.model.scores[self.score_name].range
        self.scaling: ScoreScaling = scaling_of(score_range, self.model.num_classes, heat_range)

    def _init_model(self, cfg: Config, weights: str | None, device: str = 'cpu') -> BaseSegmentor:
        return init_model(cfg, weights, device)

    def _init_pipeline(self, cfg: Config) -> Compose:
        """What follows the loading of an image, which :meth:`load` does itself."""
        options = {key: value for key, value in self.steps[0].items() if key in ('to_float32', 'imdecode_backend')}
        self.loader = LoadImage(**options)
        return Compose(self.steps[1:])

    def _init_collate(self, cfg: Config) -> None:
        """None: :meth:`preprocess` makes the batches."""

    def _init_visualizer(self, cfg: Config) -> None:
        """None: :meth:`visualize` draws pictures by itself."""

    @property
    def num_classes(self) -> int | None:
        """Classes of the segmentation; None where there is none."""
        frozen = getattr(self.model, 'frozen', None)
        number = self.model.num_classes if frozen is None else frozen.segmenter.num_classes
        return number if number > 2 else None

    def __call__(self,
                 inputs: ImageType | Sequence[ImageType],
                 return_datasamples: bool = False,
                 batch_size: int = 1,
                 threshold: float | None = None,
                 min_area: int = 1,
                 on_road: bool = False,
                 show: bool = False,
                 wait_time: float = 0,
                 return_vis: bool = False,
                 out_dir: str | None = None,
                 save: Sequence[str] = ('overlay', )) -> dict:
        """Score images.

        Args:
            inputs: A file, a folder (the images that lie directly in it), an array BGR uint8 (H, W, 3), or a list of
                files and arrays.
            return_datasamples: Return SegDataSamples, on the CPU, in place of AnomalyResults.
            batch_size: Images of one size that follow each other pass the network together, at most so many.
            threshold: Pixels with a score above it become boxes.
            min_area: Smallest component that becomes a box, in pixels.
            on_road: Boxes only of components that touch the predicted road; the model must have Cityscapes' classes.
            show: Show the overlays in a window, each for ``wait_time`` seconds (0: until a key is pressed); q or Escape
                ends the call with the images so far.
            return_vis: Return the overlays, too.
            out_dir: Folder for what ``save`` names, of 'overlay', 'heatmap', 'scores' and 'boxes'; see
                :class:`ResultFolder`. Where the call fails, what is written of the images before stays.

        Returns:
            dict: ``predictions``, a list of :class:`AnomalyResult`, also for a single image, and ``visualization``, a
            list of overlays, RGB uint8 (H, W, 3), empty without ``return_vis``.

        Raises:
            FileNotFoundError, ValueError, TypeError: An image is missing, damaged or none; options do not fit together;
                results of two images, or boxes of other settings, would get into each other's way in ``out_dir``.
        """
        items = list_images(inputs)
        if show:
            check_window()
        boxes: dict[str, Any] = dict(threshold=threshold, min_area=min_area, on_road=on_road)
        header = self.describe(**boxes)
        folder = None if out_dir is None else ResultFolder(out_dir, save)
        if folder is not None:
            folder.begin(header)
        predict = partial(self.predict, batch_size=batch_size, **boxes)
        kinds = ['overlay'] if return_vis else []
        predictions: list[AnomalyResult | SegDataSample] = []
        overlays: list[np.ndarray] = []
        with suppress(WindowClosed), InferenceRun(predict, self.visualize, folder, kinds, show, wait_time,
                                                  self.show_progress) as run:
            for prediction, pictures in run.images([(_name_of(item, index), item) for index, item in enumerate(items)]):
                predictions.append(prediction.sample.cpu() if return_datasamples else prediction.result)
                if return_vis:
                    overlays.append(np.ascontiguousarray(pictures['overlay'][..., ::-1]))
        return dict(predictions=predictions, visualization=overlays)

    def stream(self,
               inputs: Iterable[ImageType],
               batch_size: int = 1,
               threshold: float | None = None,
               min_area: int = 1,
               on_road: bool = False) -> Iterator[tuple[np.ndarray, AnomalyResult]]:
        """Score images one after the other and keep none, such as the frames of a video.

        Args: As of a call; ``inputs`` may be any iterable of files and arrays.

        Yields:
            The image, BGR uint8 (H, W, 3), and its result.
        """
        for prediction in self.predict(inputs, batch_size, threshold=threshold, min_area=min_area, on_road=on_road):
            yield prediction.image, prediction.result

    def predict(self, inputs: Iterable[ImageType], batch_size: int, **boxes: Any) -> Iterator[Prediction]:
        """As :meth:`stream`, with what the model predicts of each image beside its result."""
        self.describe(**boxes)  # refuses what does not fit
        for batch in self.preprocess(inputs, batch_size):
            for loaded, sample in zip(batch, self.forward(batch)):
                assert loaded.image is not None
                yield Prediction(loaded.image, self.postprocess(loaded.name, sample, **boxes), sample)

    def load(self, item: ImageType, number: int = 0) -> LoadedImage:
        """Load and pack an image.

        Raises:
            FileNotFoundError, ValueError, TypeError: No such image, a damaged one, an array of another shape or type.
        """
        results: Any = dict(seg_fields=[], reduce_zero_label=False)
        if isinstance(item, np.ndarray):
            if item.dtype != np.uint8 or item.ndim != 3 or item.shape[2] != 3 or not item.size:
                raise ValueError('an image must be BGR uint8 (H, W, 3), got an array '
                                 f'{item.dtype} {tuple(item.shape)}')
            name = f'{number:08d}'
            results.update(img=item, img_path=name, img_shape=item.shape[:2], ori_shape=item.shape[:2])
            if self.loader.to_float32:
                results['img'] = item.astype(np.float32)
        elif isinstance(item, (str, os.PathLike)):
            name = os.fspath(item)
            results = self.loader.transform(dict(results, img_path=name))
        else:
            raise TypeError(f'an image must be a file or an array, got {type(item).__name__}')
        image = results['img'].astype(np.uint8)
        packed = self.pipeline(results)
        return LoadedImage(name, image, packed['inputs'], packed['data_samples'])

    def preprocess(self, inputs: Iterable[ImageType], batch_size: int = 1) -> Iterator[list[LoadedImage]]:
        """Batches of images of one size, in order."""
        if batch_size < 1:
            raise ValueError(f'batch_size must be at least 1, got {batch_size}')
        batch: list[LoadedImage] = []
        for number, item in enumerate(inputs):
            loaded = self.load(item, number)
            if batch and loaded.inputs.shape != batch[0].inputs.shape:
                yield batch
                batch = []
            batch.append(loaded)
            if len(batch) == batch_size:  # at once: the next frame of a camera is yet to come
                yield batch
                batch = []
        if batch:
            yield batch

    @torch.no_grad()
    def forward(self, batch: Sequence[LoadedImage]) -> list[SegDataSample]:
        """Predictions with ``anomaly_scores``, and ``segmentation`` (1, H, W) where there are classes.

        The segmentation is the semantic map of the frozen segmenter where the model has one, else the prediction of a
        head of several classes.
        """
        frozen, seen = getattr(self.model, 'frozen', None), []
        handle = None if frozen is None else frozen.register_forward_hook(
            lambda module, inputs, maps: seen.append(maps['semantic']))
        data = dict(inputs=[loaded.inputs for loaded in batch], data_samples=[loaded.data_sample for loaded in batch])
        device = next(self.model.parameters()).device.type
        dtype = torch.bfloat16 if device == 'cpu' else torch.float16
        try:
            with torch.autocast(device, dtype=dtype, enabled=self.amp):
                samples = self.model.test_step(data)
        finally:
            if handle is not None:
                handle.remove()
        for index, sample in enumerate(samples):
            if seen:
                sample.set_data(dict(segmentation=PixelData(data=seen[0][index])))
            elif self.model.num_classes > 2:
                sample.set_data(dict(segmentation=PixelData(data=sample.pred_sem_seg.data)))
        return samples

    def postprocess(self,
                    name: str,
                    sample: SegDataSample,
                    threshold: float | None = None,
                    min_area: int = 1,
                    on_road: bool = False) -> AnomalyResult:
        """Result of a prediction.

        Raises:
            ValueError: A score is NaN.
        """
        scores = sample.anomaly_scores.data[self.score_names.index(self.score_name)].float().cpu().numpy()
        if np.isnan(scores).any():
            raise ValueError(f'{name}: the model gives scores that are NaN')
        segmentation: Any = None
        if 'segmentation' in sample:
            segmentation = sample.segmentation.data[0].cpu().numpy().astype(np.uint8)
            segmentation = resize_nearest(segmentation, scores.shape)  # frozen networks have a size of their own
        boxes = None
        if threshold is not None:
            boxes = find_boxes(scores, threshold, min_area, near_road(segmentation) if on_road else None)
        return AnomalyResult(name, scores, segmentation, boxes)

    def visualize(self, image: np.ndarray, result: AnomalyResult, kind: str = 'overlay') -> np.ndarray:
        """The heat map of a result, alone ('heatmap') or over its image with its boxes; BGR uint8 (H, W, 3)."""
        heat = self.scaling(result.anomaly_scores)
        if kind == 'heatmap':
            return colour_heat(heat)
        return draw_boxes(blend_heat(image, heat), result.boxes or ())

    def describe(self, threshold: float | None, min_area: int, on_road: bool) -> dict[str, Any]:
        """What boxes depend on, beside the weights, for the file that they are written to.

        Raises:
            ValueError: There are no such boxes.
        """
        if threshold is not None and np.isnan(threshold):
            raise ValueError('threshold must not be NaN')
        if min_area < 1:
            raise ValueError(f'min_area must be at least 1, got {min_area}')
        if on_road and self.num_classes != NUM_CITYSCAPES_CLASSES:
            raise ValueError(f'on_road needs the {NUM_CITYSCAPES_CLASSES} classes of Cityscapes, among them the road; '
                             f'the model has {self.num_classes or "none"}')
        threshold = None if threshold is None else float(threshold)
        return dict(score=self.score_name, threshold=threshold, min_area=int(min_area), on_road=bool(on_road))


def _name_of(image: ImageType, number: int) -> str:
    """Name of the files of an image: that of its file, or the number of an array."""
    return Path(image).stem if isinstance(image, (str, os.PathLike)) else f'{number:08d}'
