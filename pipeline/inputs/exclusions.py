"""Files below an input that a listing leaves out, whatever their ending."""

from __future__ import annotations

import re
from collections.abc import Callable

from pipeline.inputs import globs

# What systems and programs put beside images: copies, thumbnails, the bin, notes of their own.
# In any case; folders with all that is in them.
FOLDERS = (
    "__MACOSX .AppleDouble @eaDir .@__thumb .thumbnails $RECYCLE.BIN #recycle @Recycle .Trash "
    ".Trashes .Trash-* .ipynb_checkpoints"
).split()
FILES = "._* .DS_Store Thumbs.db ehthumbs.db desktop.ini".split()
# why a file is passed over, beside extensions, none of which has a slash
BY_PRODUCT, EXCLUDED = "/by-product", "/excluded file"
# of a text list, for which a table's `passed` counts lines
COMMENTS = "/blank or commented line"
# of several tables, likewise
EMPTY = "/empty table"


def _any_of(names: list[str]) -> str:
    return "|".join(re.escape(name).replace(r"\*", "[^/]*") for name in names)


BY_PRODUCTS = re.compile(rf"(\A|/)(({_any_of(FOLDERS)})/|({_any_of(FILES)})\Z)", re.IGNORECASE)


def is_by_product(path: str) -> bool:
    """Whether a path, relative to the input's folder, is such a file's."""
    return bool(BY_PRODUCTS.search(path))


def reasons(
    include: tuple[str, ...] = (), exclude: tuple[str, ...] = (), by_products: bool = False
) -> Callable[[str], str]:
    """Why a file is left out, by its path relative to the input's folder; empty if it is not.

    Of a path that ends in a slash, why all is that may be in this folder.

    Args:
        include: globs of such paths, of which one must match; none, all are in.
        exclude: globs of which none may match.
        by_products: whether files that are by-products are taken for files like any other.
    """
    wanted = [globs.matcher(pattern) for pattern in include]
    unwanted = [globs.matcher(pattern) for pattern in exclude]

    def reason_of_all(folder: str) -> str:
        inside = f"{folder}\0/\0"  # under any name, at any depth
        if is_by_product(inside):
            return BY_PRODUCT
        is_in = not include or any(globs.reaches(glob, folder.rstrip("/")) for glob in include)
        return "" if is_in and not any(matches(inside) for matches in unwanted) else EXCLUDED

    def reason(path: str) -> str:
        if path.endswith("/"):
            return reason_of_all(path)
        if not by_products and is_by_product(path):
            return BY_PRODUCT
        is_in = not wanted or any(matches(path) for matches in wanted)
        return "" if is_in and not any(matches(path) for matches in unwanted) else EXCLUDED

    return reason
