"""What an input says now of the images that have changed, each at hand by its row."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from pipeline.inputs.difference import Difference, batches

# changed images that are marked at once
MARKED = 2**20


class Fresh:
    """The rows of changed images, in a file of their own beside the listing.

    A listing is compressed by the batch, and what a part of the manifest needs of it may lie all
    over it: each part would decompress all of it anew.
    """

    def __init__(self, difference: Difference) -> None:
        path = difference.listed.with_name("fresh.arrow")
        rows = len(difference.new)
        self.kept = np.memmap(difference.listed.with_name("kept"), bool, "w+", shape=rows)
        for first in range(0, len(difference.changed), MARKED):
            self.kept[difference.changed["row"][first : first + MARKED]] = True
        starts = [0]
        with pa.ipc.new_file(str(path), difference.schema) as file:
            for batch in batches(difference.listed):
                start, end = starts[-1], starts[-1] + batch.num_rows
                file.write_batch(batch.filter(pa.array(self.kept[start:end])))
                starts.append(end)
        self.starts = np.array(starts)
        self.reader = pa.ipc.open_file(pa.memory_map(str(path)))

    def take(self, rows: np.ndarray) -> pa.Table:
        """
        Args:
            rows: [N] int64, numbers of rows of the listing, all of them of changed images.

        Returns:
            N rows in this order.
        """
        order = np.argsort(rows)
        numbers = np.searchsorted(self.starts, rows[order], "right") - 1
        found = []
        firsts = np.flatnonzero(np.diff(numbers, prepend=-1))
        for number, some in zip(numbers[firsts].tolist(), np.split(order, firsts[1:]), strict=True):
            start, end = self.starts[number : number + 2]
            places = np.searchsorted(np.flatnonzero(self.kept[start:end]), rows[some] - start)
            found.append(self.reader.get_batch(number).take(pa.array(places)))
        return pa.Table.from_batches(found).combine_chunks().take(pa.array(np.argsort(order)))
