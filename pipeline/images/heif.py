"""AVIF and HEIC: pictures in the boxes of a HEIF file."""

from __future__ import annotations

from typing import Any

from PIL import AvifImagePlugin, Image, features
from PIL.ImageFile import ImageFile, _Tile

from pipeline.errors import Code
from pipeline.images.errors import DecodeError

# brands, of which a file names one or more after `ftyp`
AVIF = rb".{4}ftyp(?:.{4})*?avi[fs]"
HEIC = rb".{4}ftyp(?:.{4})*?(?:hei[cxms]|hev[cxms]|mif[123]|msf1)"

# the images of a run are decoded on threads of its own
AvifImagePlugin.DEFAULT_MAX_THREADS = 1


class AvifFile(AvifImagePlugin.AvifImageFile):
    """Pillow's reader, which tells the turns of the picture as an orientation of EXIF's."""

    def _open(self) -> None:
        if not features.check("avif"):
            message = "this build of Pillow cannot read AVIF; install Pillow with pip"
            raise DecodeError(Code.UNSUPPORTED_MODE, message)
        super()._open()
        self.info.pop("xmp", None)  # what that says of turns is not meant for readers of AVIF


class HeicFile(ImageFile):
    """The main picture of a HEIC file, by pillow-heif, which turns it upright."""

    format = "HEIF"

    def _open(self) -> None:
        try:
            import pillow_heif
        except ImportError as error:
            message = (
                "HEIC needs pillow-heif on each machine that decodes: pip install '.[heic]' in "
                "the clone, or on a cluster in its image or runtime_env"
            )
            raise DecodeError(Code.UNSUPPORTED_MODE, message) from error
        options = pillow_heif.options
        options.DECODE_THREADS = 1
        options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = False
        self._file = pillow_heif.open_heif(self.fp)
        self._size, self._mode = self._file.size, self._file.mode
        self.tile = [_Tile("heif", (0, 0, *self.size), 0, self.mode)]

    def load(self) -> Any:
        """Decode the picture.

        Raises:
            ValueError: it is damaged, or of another size than the file says.
        """
        if self.tile:
            picture = self._file.to_pillow()
            if picture.size != self.size:
                raise ValueError(f"the picture is {picture.size}, the file says {self.size}")
            self.im, self.tile = picture.im, []
            del self._file
        return Image.Image.load(self)


def is_cut(data: bytes) -> bool:
    """Whether the last box says that it has more bytes than there are."""
    at = 0
    while at + 16 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        if size < 8:  # 0 is as far as the file goes
            return False
        at += size
    return at != len(data)
