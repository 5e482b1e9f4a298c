"""A short visit to a machine that has a GPU and little else: all that is asked of it, at once.

`python -m benchmarks.gpu --out FOLDER [--bring FOLDER]`, and before that, where the checkpoint is,
`python -m benchmarks.gpu --pack FOLDER --weights CHECKPOINT --images DIR --annotations COCO_JSON`

Each stage is a process of its own with a limit of its own: one that fails costs only itself. Rows
are written as they come.
"""
