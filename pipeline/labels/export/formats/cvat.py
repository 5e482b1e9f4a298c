"""CVAT for images 1.1: one `annotations.xml`."""

from __future__ import annotations

from datetime import UTC, datetime

from pipeline.labels.export.folder import Folder, pour
from pipeline.labels.export.target import Item, Job, Shard
from pipeline.labels.markup import escape, quote

BOX = (
    '    <box label=%s source="auto" occluded="0" xtl="%.2f" ytl="%.2f" xbr="%.2f" ybr="%.2f" '
    'z_order="0"'
)
SCORE = '><attribute name="score">%.6f</attribute></box>\n'
LABEL = "<label><name>%s</name><type>rectangle</type><attributes>%s</attributes></label>\n"
ATTRIBUTE = (
    "<attribute><name>score</name><mutable>False</mutable><input_type>number</input_type>"
    "<default_value>0</default_value><values>0\n1\n0.000001</values></attribute>"
)
HEAD = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <task>
      <name>%s</name>
      <size>%d</size>
      <mode>%s</mode>
      <start_frame>0</start_frame>
      <stop_frame>%d</stop_frame>
%s      <labels>
%s      </labels>
    </task>
    <dumped>%s</dumped>
  </meta>
"""


class Cvat(Shard):
    """CVAT matches images by name without its ending, or else by `id`, from 0 in each file.

    The task must have the labels already. Scores have no place of their own; if asked for, they
    are an attribute `score`, which CVAT takes over where the task's labels have one.
    """

    how = "CVAT: in a task with these images, Upload annotations, CVAT 1.1, {to}/annotations.xml"

    def __init__(self, folder: Folder, job: Job) -> None:
        self.prefix = job.options.image_prefix or ""
        self.job = job
        self.confidence = job.options.confidence
        self.labels = [quote(name) for name in job.classes.names]
        self.file = folder.open("annotations.xml")
        # the number of images stands before them
        self.body = folder.spool()
        self.size = 0

    def add(self, item: Item) -> None:
        image = item.image
        parts = [
            f'  <image id="{self.size}" name={quote(self.prefix + item.name)} '
            f'width="{image.width}" height="{image.height}">\n'
        ]
        for place, score, corners in item.boxes:
            parts.append(BOX % (self.labels[place], *corners))
            parts.append(SCORE % score if self.confidence else "/>\n")
        parts.append("  </image>\n")
        self.body.write("".join(parts))
        self.size += 1

    def close(self) -> None:
        self.file.write(head(self.job, "annotation", self.size, max(self.size - 1, 0)))
        pour(self.body, self.file)
        self.file.write("</annotations>\n")


def head(job: Job, mode: str, size: int, stop: int, more: str = "") -> str:
    """What stands before the annotations.

    Args:
        job: of the export.
        mode: of CVAT.
        size: number of frames.
        stop: number of the last one.
        more: elements of the task.
    """
    attribute = ATTRIBUTE if job.options.confidence else ""
    labels = "".join(LABEL % (escape(name), attribute) for name in job.classes.names)
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S+00:00")
    return HEAD % (escape(job.model_id), size, mode, stop, more, labels, now)
