"""Label Studio: `tasks.json` with predictions, and the labelling configuration for them."""

from __future__ import annotations

import json
from urllib.parse import quote as quote_url

from pipeline.labels.export.folder import Folder
from pipeline.labels.export.target import Item, Job, Shard
from pipeline.labels.markup import quote, valid
from pipeline.store import urls

REGION = (
    '{"id":"%d-%d","type":"rectanglelabels","from_name":"label","to_name":"image",'
    '"original_width":%d,"original_height":%d,"image_rotation":0,"score":%.6f,'
    '"value":{"x":%.5f,"y":%.5f,"width":%.5f,"height":%.5f,"rotation":0,"rectanglelabels":[%s]}}'
)
CONFIG = """<View>
  <Image name="image" value="$image"/>
  <RectangleLabels name="label" toName="image">
%s  </RectangleLabels>
</View>
"""


class LabelStudio(Shard):
    """A task an image with one prediction, whose score is the mean of its regions' scores.

    The image is the URI of its copy, or where there is none its own, which Label Studio's cloud
    storages resolve. A local file is named as from local storage with the document root `/`. With
    a prefix it is prefix and name.
    """

    how = (
        "Label Studio: set {to}/label_config.xml as labelling interface, then import "
        "{to}/tasks.json. Images on a disk it shows with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED="
        "true and LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT=/ in its environment, and their folder "
        "added as local storage"
    )

    def __init__(self, folder: Folder, job: Job) -> None:
        self.folder = folder
        self.prefix = job.options.image_prefix
        # the labels of regions must be those of the configuration, which is XML
        names = [valid(name) for name in job.classes.names]
        self.labels = [json.dumps(name) for name in names]
        self.model = json.dumps(job.model_id)
        config = CONFIG % "".join(f"    <Label value={quote(name)}/>\n" for name in names)
        folder.put("label_config.xml", config.encode())
        self.tasks = folder.open("tasks.json")
        self.tasks.write("[")
        self.written = 0

    def add(self, item: Item) -> None:
        image = item.image
        width, height = image.width, image.height
        regions = ",".join(
            REGION
            % (
                image.image_id,
                n,
                width,
                height,
                score,
                100 * x / width,
                100 * y / height,
                100 * (right - x) / width,
                100 * (bottom - y) / height,
                self.labels[place],
            )
            for n, (place, score, (x, y, right, bottom)) in enumerate(item.boxes)
        )
        score = float(image.scores.mean()) if len(image.scores) else 0.0
        data = {
            "image": self._url(item),
            "image_id": image.image_id,
            "image_uri": image.uri,
            "width": width,
            "height": height,
        }
        self.tasks.write(
            f'{"," if self.written else ""}\n{{"data":{json.dumps(data)},"predictions":'
            f'[{{"model_version":{self.model},"score":{score:.6f},"result":[{regions}]}}]}}'
        )
        self.written += 1

    def _url(self, item: Item) -> str:
        if self.prefix is not None:
            return self.prefix + quote_url(item.name)
        copied = item.data is not None
        uri = self.folder.url(f"{self.images}/{item.name}") if copied else item.image.uri
        if urls.protocol(uri) == "file":
            path = uri.removeprefix("file://").lstrip("/")
            return f"/data/local-files/?d={quote_url(path)}"
        return uri

    def close(self) -> None:
        self.tasks.write("\n]\n")
