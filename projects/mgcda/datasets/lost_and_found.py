# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import os

from mmseg.registry import DATASETS

from mgcda.labels import ANOMALY, IGNORE, NORMAL

from .anomaly_dataset import AnomalyDataset
from .pairing import by_base_name, list_files, listing, pair_by_name

#: 0 void, 1 (road) normal, 2 to 200 obstacle, anything else void.
LABEL_MAP = {value: NORMAL if value == 1 else ANOMALY if 2 <= value <= 200 else IGNORE for value in range(256)}
#: Number of frames of the test set, and the positions among them, sorted by name, of those whose labels are all 0.
NUM_TEST_FRAMES = 1203
UNLABELLED_FRAMES = (17, 37, 55, 72, 91, 110, 129, 153, 174, 197, 218, 353, 490, 618, 686, 792, 793)
#: How the names of frames with children and cyclists begin, which are no unknown objects.
KNOWN_OBJECTS = ('15_Rechbergstr_Deckenpfronn', '01_Hanns_Klemm_Str_45_000006', '01_Hanns_Klemm_Str_45_000007',
                 '10_Schlossberg_9_000004')


@DATASETS.register_module()
class LostAndFoundDataset(AnomalyDataset):
    """LostAndFound (Pinggera et al. 2016), 2048x1024, as SegmentMeIfYouCan tests on it.

    ``leftImg8bit/{train,test}/RECORDING/NAME_leftImg8bit.png`` and
    ``gtCoarse/{train,test}/RECORDING/NAME_gtCoarse_labelIds.png``. Files are paired by NAME, so that both folders may
    also be flat. Only the drivable space counts; unlike the labels of Fishyscapes, these are public for all frames.

    Args:
        split: ``'test'``: all 1203 frames, 17 of which have no labelled pixel; ``'test_no_known'``: 1043 of them, less
            those 17 and the frames with children and cyclists; ``'train'``: 1036 frames.
        ann_file: text file that names the frames to use, one a line and without suffix; needed for
            ``'test_no_known'`` where the test set on disk is not complete.

    Raises:
        ValueError: wrong split; ``'test_no_known'`` of other than 1203 frames, since the 17 are known by their
            position; listed frames that it leaves out; FileNotFoundError, ValueError: as :class:`AnomalyDataset`.
    """

    DEFAULT_NAME = 'LostAndFound'
    NUM_IMAGES = {
        ('LostAndFound_test', 'test'): NUM_TEST_FRAMES,
        ('LostAndFound_testNoKnown', 'test_no_known'): 1043,
        ('LostAndFound_train', 'train'): 1036
    }
    DEFAULT_LABEL_MAP = LABEL_MAP

    def __init__(self,
                 split: str = 'test',
                 data_prefix: dict | None = None,
                 img_suffix: tuple[str, ...] = ('_leftImg8bit.png', '_leftImg8bit.webp', '_leftImg8bit.jpg'),
                 seg_map_suffix: str = '_gtCoarse_labelIds.png',
                 dataset_name: str | None = None,
                 **kwargs) -> None:
        names = {part: name for name, part in self.NUM_IMAGES}
        if split not in names:
            raise ValueError(f'split must be one of {sorted(names)}, got {split!r}')
        self.split = split
        if data_prefix is None:
            folder = 'train' if split == 'train' else 'test'
            data_prefix = dict(img_path=f'leftImg8bit/{folder}', seg_map_path=f'gtCoarse/{folder}')
        super().__init__(
            data_prefix=data_prefix,
            img_suffix=img_suffix,
            seg_map_suffix=seg_map_suffix,
            dataset_name=dataset_name or names[split],
            **kwargs)

    @property
    def unlabelled_images(self) -> frozenset[str]:
        """Paths of the 17 test frames whose labels are all 0, where the test set is complete."""
        frames = list(self.find_frames().values())
        if self.split != 'test' or len(frames) != NUM_TEST_FRAMES:
            return frozenset()
        return frozenset(os.path.join(self.data_prefix['img_path'], frames[i]) for i in UNLABELLED_FRAMES)

    def listed_names(self) -> list[str] | None:
        """Names in ``ann_file``, whose lines may name the folder of the recording, too."""
        names = super().listed_names()
        return None if names is None else [os.path.basename(name) for name in names]

    def find_frames(self) -> dict[str, str]:
        """All frames of the folder, sorted by name: name -> path relative to the image folder."""
        folder = self.data_prefix['img_path']
        return by_base_name(list_files(folder, self.img_suffix, 'images'), 'images', folder, self.refuse)

    def find_images(self) -> dict[str, str]:
        """Frames of the split."""
        return self._of_split(self.find_frames())

    def _of_split(self, frames: dict[str, str]) -> dict[str, str]:
        """Those of all frames that are of the split, and listed where there is a list."""
        listed = self.listed_names()
        if self.split != 'test_no_known':
            return self.select(frames, listed)
        complete = len(frames) == NUM_TEST_FRAMES
        unlabelled = {list(frames)[i] for i in UNLABELLED_FRAMES} if complete else set()
        left_out = {name for name in (*frames, *(listed or ())) if name.startswith(KNOWN_OBJECTS)} | unlabelled
        wrong = [name for name in listed or () if name in left_out]
        if wrong:
            self.refuse(f'ann_file {self.ann_file} lists {len(wrong)} frames that test-NoKnown leaves out: '
                        f'{listing(wrong)}')
        if listed is None and not complete:
            raise ValueError(f'{self.data_prefix["img_path"]} holds {len(frames)} images, but test-NoKnown is defined '
                             f'by positions among the {NUM_TEST_FRAMES} test frames: complete the folder, or name the '
                             'frames in ann_file')
        frames = {name: path for name, path in frames.items() if name not in left_out}
        return self.select(frames, None if listed is None else [name for name in listed if name not in left_out])

    def find_pairs(self) -> list[tuple[str, str]]:
        """Pairs of frame and label; labels of frames outside the split do not count, those without any are refused."""
        frames, folder = self.find_frames(), self.data_prefix['seg_map_path']
        images = self._of_split(frames)
        labels = by_base_name(self.find_labels(), 'label files', folder, self.refuse)
        labels = {name: path for name, path in labels.items() if name in images or name not in frames}
        return pair_by_name(images, labels, 'label file', folder, self.refuse)
