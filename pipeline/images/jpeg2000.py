"""JPEG 2000 in strips and tiles of a TIFF: a codec for Pillow, which reads it in files alone."""

from __future__ import annotations

import io

from PIL import Image, ImageFile, features
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile

CODEC = "tiff_jpeg2000"
# two of Aperio's, whose codestreams do not say what their components are, and that of others
APERIO_YCBCR, APERIO_RGB, JPEG_2000 = 33003, 33005, 34712
KINDS = (APERIO_YCBCR, APERIO_RGB, JPEG_2000)
# in a codestream's SIZ marker, by how much the second component is narrower and lower
SUBSAMPLED = slice(46, 48)


def can_decode() -> bool:
    """Whether this build of Pillow has JPEG 2000."""
    return bool(features.check("jpg_2000"))


class _Decoder(ImageFile.PyDecoder):
    """Decodes one strip or tile.

    Its arguments: the bytes that it has in the file, its width and height in pixels, and whether
    its components are YCbCr.
    """

    _pulls_fd = True

    def decode(self, buffer: object) -> tuple[int, int]:
        length, width, height, is_ycbcr = self.args
        assert self.fd and self.im is not None
        data = self.fd.read(length)
        if len(data) < length:
            raise OSError("a strip or tile is truncated")
        part: Image.Image = Jpeg2KImageFile(io.BytesIO(data))
        state = self.state
        inside = (state.xsize, state.ysize)
        if not all(a <= b <= c for a, b, c in zip(inside, part.size, (width, height), strict=True)):
            raise OSError(
                f"a strip or tile of {width}x{height} holds {part.size[0]}x{part.size[1]}"
            )
        if part.mode != self.mode:
            raise OSError(f"Unsupported: a strip or tile of {part.mode} in {self.mode}")
        part.load()
        # where the colours are subsampled, Pillow takes them for what they are
        if is_ycbcr and data[SUBSAMPLED] == b"\1\1":
            part = Image.merge("YCbCr", part.split()).convert("RGB")
        box = (state.xoff, state.yoff, state.xoff + state.xsize, state.yoff + state.ysize)
        self.im.paste(part.crop((0, 0, *inside)).im, box)
        return -1, 0


Image.register_decoder(CODEC, _Decoder)
