"""CVAT for video 1.1: an `annotations.xml` for each video, whose frames it numbers."""

from __future__ import annotations

import pyarrow.compute as pc

from pipeline.errors import UsageError
from pipeline.labels.export.folder import Folder, pour
from pipeline.labels.export.formats.cvat import SCORE, head
from pipeline.labels.export.naming import FRAME
from pipeline.labels.export.target import Item, Job, Shard
from pipeline.labels.markup import quote
from pipeline.labels.output import Output

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


def last_frames(run: Output) -> dict[str, int]:
    """Of each video by its URI, the number of the last frame that the run has, failed ones too.

    Raises:
        UsageError: the run is of no videos.
        RunError: a file is damaged.
    """
    if "frame_index" not in run.schema.names:
        raise UsageError(f"{run.url} has no frames of videos; use --format cvat for images")
    found: dict[str, int] = {}
    for table in run.tables(("image_id", "image_uri", "frame_index")):
        table = table.filter(pc.is_valid(table["frame_index"]))
        for uri, frame in zip(*(table[n].to_pylist() for n in table.column_names[1:]), strict=True):
            video = FRAME.sub("", uri)
            found[video] = max(found.get(video, 0), frame)
    return found
