"""CVAT for video 1.1: an `annotations.xml` for each video, whose frames it numbers."""

from __future__ import annotations

import shutil

from pipeline.labels.export.formats.cvat import SCORE, head
from pipeline.labels.export.target import Folder, Item, Job, Shard
from pipeline.labels.markup import quote

TRACK = '  <track id="%d" label=%s source="auto">\n'
BOX = (
    '    <box frame="%d" keyframe="1" outside="%d" occluded="0" xtl="%.2f" ytl="%.2f" xbr="%.2f" '
    'ybr="%.2f" z_order="0"'
)


class CvatVideo(Shard):
    """Each detection is a track of one frame, as CVAT itself writes boxes that are not tracked.

    Frames have their place in the video as number. In the frame of the task that follows, a track
    is outside. After the last frame none may follow, and one that CVAT does not know is refused by
    it, so the boxes there have no end.
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
        self.last: Item | None = None

    def add(self, item: Item) -> None:
        self._write_last(ends=True)
        self.last = item

    def _write_last(self, ends: bool) -> None:
        if self.last is None:
            return
        image = self.last.image
        for place, score, corners in zip(
            image.classes.tolist(), image.scores.tolist(), image.xyxy.tolist(), strict=True
        ):
            end = SCORE % score if self.job.options.confidence else "/>\n"
            self.body.write(TRACK % (self.tracks, self.labels[place]))
            self.body.write(BOX % (image.frame, 0, *corners) + end)
            if ends:
                self.body.write(BOX % (image.frame + self.step, 1, *corners) + end)
            self.body.write("  </track>\n")
            self.tracks += 1

    def close(self) -> None:
        self._write_last(ends=False)
        image = self.last.image if self.last else None
        stop, width, height = (image.frame, image.width, image.height) if image else (0, 0, 0)
        more = (
            f"      <frame_filter>step={self.step}</frame_filter>\n      <original_size>"
            f"<width>{width}</width><height>{height}</height></original_size>\n"
        )
        self.file.write(head(self.job, "interpolation", stop // self.step + 1, stop, more))
        self.body.seek(0)
        shutil.copyfileobj(self.body, self.file)
        self.body.close()
        self.file.write("</annotations>\n")
