"""Which program reads which format."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.readers import Found, heavy, light

# reader -> the format, the package whose version counts, what reads a folder
READERS: dict[str, tuple[str, str, Callable[[str], Found]]] = {
    "coco_pycocotools": ("coco", "pycocotools", light.coco_pycocotools),
    "coco_results_pycocotools": ("coco", "pycocotools", light.coco_results_pycocotools),
    "coco_labelformat": ("coco", "labelformat", light.coco_labelformat),
    "coco_panlabel": ("coco", "panlabel", light.panlabel("coco", "instances.json")),
    "coco_supervision": ("coco", "supervision", heavy.supervision("coco")),
    "coco_datumaro": ("coco", "datumaro", heavy.datumaro("coco_instances")),
    "coco_fiftyone": ("coco", "fiftyone", heavy.fiftyone("coco")),
    "yolo_labelformat": ("yolo", "labelformat", light.yolo_labelformat),
    "yolo_panlabel": ("yolo", "panlabel", light.panlabel("yolo", "")),
    "yolo_supervision": ("yolo", "supervision", heavy.supervision("yolo")),
    "yolo_datumaro": ("yolo", "datumaro", heavy.datumaro("yolo")),
    "yolo_fiftyone": ("yolo", "fiftyone", heavy.fiftyone("yolo")),
    "yolo_ultralytics": ("yolo", "ultralytics", heavy.yolo_ultralytics),
    "voc_labelformat": ("voc", "labelformat", light.voc_labelformat),
    "voc_panlabel": ("voc", "panlabel", light.panlabel("voc", "")),
    "voc_supervision": ("voc", "supervision", heavy.supervision("voc")),
    "voc_datumaro": ("voc", "datumaro", heavy.datumaro("voc_detection")),
    "voc_fiftyone": ("voc", "fiftyone", heavy.fiftyone("voc")),
    "labelstudio_sdk": ("labelstudio", "label-studio-sdk", heavy.labelstudio_sdk),
    "labelstudio_panlabel": (
        "labelstudio",
        "panlabel",
        light.panlabel("label-studio", "tasks.json"),
    ),
    "cvat_labelformat": ("cvat", "labelformat", light.cvat_labelformat),
    "cvat_panlabel": ("cvat", "panlabel", light.panlabel("cvat", "annotations.xml")),
    "cvat_datumaro": ("cvat", "datumaro", heavy.datumaro("cvat")),
    "cvat_fiftyone": ("cvat", "fiftyone", heavy.fiftyone("cvat")),
    "fiftyone_fiftyone": ("fiftyone", "fiftyone", heavy.fiftyone("fiftyone")),
    "huggingface_datasets": ("huggingface", "datasets", light.huggingface_datasets),
}
