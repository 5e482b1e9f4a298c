"""Frames of videos through a run, beside the same pictures as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
from PIL import Image

from jobs import export, report, verify
from pipeline import Config, run
from tests.support import videos
from tests.support.outputs import rows
from tests.support.runs import SMALL


def test_a_frame_has_the_boxes_of_its_pixels(cluster: None, tmp_path: Path) -> None:
    """Those of the same pixels in a file; what cannot be read ends in a row, not the run."""
    folder, output = tmp_path / "in", str(tmp_path / "out")
    folder.mkdir()
    path = videos.write(folder / "a.mp4", range(100, 140), rotation=90)
    with av.open(path, "r") as video:
        for number, decoded in enumerate(video.decode(video=0)):
            picture = decoded.reformat(format="rgb24", interpolation="BICUBIC").to_image()
            if number % 15 == 0:
                turned = picture.transpose(Image.Transpose.ROTATE_90)
                turned.save(folder / f"b{number:03d}.png")
    (folder / "c.mp4").write_bytes(b"no video")
    options: dict[str, Any] = {
        "every_nth": 15,
        "weights": "random:0",
        "model": SMALL,
        "max_error_rate": 0.5,
    }
    assert run(Config(input=str(folder), output=output, **options))

    found = rows(output)
    frames, files, broken = found[:3], found[3:6], found[6]
    assert [row["frame_index"] for row in frames] == [0, 15, 30]
    assert [Path(row["image_uri"]).name for row in files] == ["b000.png", "b015.png", "b030.png"]
    for frame, file in zip(frames, files, strict=True):
        assert (frame["width"], frame["height"]) == (48, 64)
        assert frame["detections"] == file["detections"] and frame["num_detections"]
    assert frames[0]["detections"] != frames[1]["detections"]
    assert broken["error_code"] == "container_damaged"

    to = tmp_path / "coco"
    assert verify.main([output]) == 0
    assert report.main([output, "--to", str(tmp_path / "report.html")]) == 0
    assert export.main([output, "--format", "coco", "--with-images", "--to", str(to)]) == 0
    for time, file in zip(("0.000", "0.600", "1.200"), files, strict=True):
        written = Image.open(to / f"images/a.mp4/00000{time}.png")
        assert written.tobytes() == Image.open(file["image_uri"]).tobytes()
