"""CVAT for video 1.1: an `annotations.xml` for each video, whose frames it numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import UsageError
from pipeline.labels import boxes
from pipeline.labels.export.folder import Folder, pour
from pipeline.labels.export.formats.cvat import SCORE, head
from pipeline.labels.export.naming import FRAME
from pipeline.labels.export.target import Item, Job, Shard
from pipeline.labels.markup import quote
from pipeline.labels.output import Output
from pipeline.store import objects

COLUMNS = (*boxes.COLUMNS, "frame_index")
TRACK = '  <track id="%d" label=%s source="auto">\n'
BOX = (
    '    <box frame="%d" keyframe="1" outside="%d" occluded="0" xtl="%.2f" ytl="%.2f" xbr="%.2f" '
    'ybr="%.2f" z_order="0"'
)


class CvatVideo(Shard):
    """Each detection is a track of one frame, as CVAT itself writes boxes that are not tracked.

    Frames have their place in the video as number. In the frame of the task that follows, a track
    is outside. After the video's last frame in the run none may follow, and one that CVAT does not
    know is refused by it, so the boxes there have no end.
    """

    images = None
    by_directory = True
    how = (
        "CVAT: in a task of the video, whose frame step is the run's --every-nth (or 1), Upload "
        "annotations, CVAT 1.1, {to}/annotations.xml"
    )

    def __init__(self, folder: Folder, job: Job) -> None:
        self.job = job
        self.labels = [quote(name) for name in job.classes.names]
        self.step = int(job.record["identity"].get("every_nth") or 1)
        self.file = folder.open("annotations.xml")
        # sizes stand before the tracks
        self.body = folder.spool()
        self.tracks = 0
        self.stop, self.size = 0, (0, 0)

    def add(self, item: Item) -> None:
        image = item.image
        self.stop = self.job.last_frames[FRAME.sub("", image.uri)]
        self.size = image.width, image.height
        for place, score, corners in item.boxes:
            end = SCORE % score if self.job.options.confidence else "/>\n"
            self.body.write(TRACK % (self.tracks, self.labels[place]))
            self.body.write(BOX % (image.frame, 0, *corners) + end)
            if image.frame < self.stop:
                self.body.write(BOX % (image.frame + self.step, 1, *corners) + end)
            self.body.write("  </track>\n")
            self.tracks += 1

    def close(self) -> None:
        width, height = self.size
        more = (
            f"      <frame_filter>step={self.step}</frame_filter>\n      <original_size>"
            f"<width>{width}</width><height>{height}</height></original_size>\n"
        )
        self.file.write(
            head(self.job, "interpolation", self.stop // self.step + 1, self.stop, more)
        )
        pour(self.body, self.file)
        self.file.write("</annotations>\n")


class Videos:
    """The videos of a run, as its input has them now.

    Attributes:
        last_frames: of each by its URI, the number of the last frame that the run has, failed ones
            too.
    """

    def __init__(self, run: Output, at_once: int) -> None:
        """
        Args:
            run: the output.
            at_once: so many videos can be written at a time.

        Raises:
            UsageError: the run is of no videos.
            RunError: a file is damaged.
        """
        if "frame_index" not in run.schema.names:
            raise UsageError(f"{run.url} has no frames of videos; use --format cvat for images")
        self.run = run
        self.gone: set[int] = set()
        if data := objects.get(run.layout.fs, run.layout.gone):
            self.gone.update(pq.read_table(pa.BufferReader(data))["image_id"].to_pylist())
        self.last_frames: dict[str, int] = {}
        self.rounds: dict[str, int] = {}  # of videos whose frames do not follow each other
        before = ""
        for table in run.tables(("image_id", "image_uri", "frame_index")):
            table = self.present(table, Counter())
            videos = _videos(table)
            for video, frame in zip(videos, table["frame_index"].to_pylist(), strict=True):
                if video != before and video in self.last_frames:
                    self.rounds.setdefault(video, 1 + len(self.rounds) // at_once)
                self.last_frames[video] = max(self.last_frames.get(video, 0), frame)
                before = video

    def tables(self) -> Iterator[pa.Table]:
        """The rows with status ok, those of each video in order of id.

        Where the frames of a video do not follow each other, as after a refresh, they come later,
        with those of at most `at_once` such videos; for each time the output is read again.
        """
        for number in range(1 + max(self.rounds.values(), default=0)):
            for table in self.run.tables(COLUMNS, ("ok",), "exporting"):
                rounds = (self.rounds.get(video, 0) for video in _videos(table))
                yield table.filter(pa.array([one == number for one in rounds], pa.bool_()))

    def present(self, table: pa.Table, counts: Counter[str]) -> pa.Table:
        """The rows of frames that the input has; the others are counted."""
        counts["images_of_no_video"] += table["frame_index"].null_count
        table = table.filter(table["frame_index"].is_valid())
        here = [image_id not in self.gone for image_id in table["image_id"].to_pylist()]
        counts["frames_gone"] += here.count(False)
        return table.filter(pa.array(here, pa.bool_()))


def _videos(table: pa.Table) -> list[str]:
    """The URI of each row's video."""
    return [FRAME.sub("", uri) for uri in table["image_uri"].to_pylist()]
