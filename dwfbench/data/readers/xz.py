"""The bytes that an .xz file unpacks to, in bounded memory: lzma.open makes a window as large as the file asks for."""

import io
import os
from io import BufferedReader

MEMORY = 1 << 28  # bytes for unpacking; `xz -9` needs 65 MiB, and a file may ask for 4 GiB
READ_BYTES = 1 << 16


class Xz(io.RawIOBase):
    """Raw, for a BufferedReader. To seek back is to unpack from the start."""

    def __init__(self, file: BufferedReader):
        self.file = file
        self._rewind()

    def _rewind(self) -> None:
        self.file.seek(0)
        self.position = 0
        self._start()

    def _start(self) -> None:
        from lzma import FORMAT_XZ, LZMADecompressor

        self.decoder = LZMADecompressor(FORMAT_XZ, MEMORY)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence != os.SEEK_SET:
            raise io.UnsupportedOperation("only from the start")
        if offset < self.position:
            self._rewind()
        while self.position < offset and self.read(min(offset - self.position, READ_BYTES)):
            pass
        return self.position

    def readinto(self, buffer) -> int:
        content = b""
        while not content:
            packed = b""
            if self.decoder.eof:  # another stream may follow, and zeros between them
                packed = self.decoder.unused_data.lstrip(b"\0") or self.file.read(READ_BYTES).lstrip(b"\0")
                if not packed:
                    return 0
                self._start()
            elif self.decoder.needs_input and not (packed := self.file.read(READ_BYTES)):
                raise ValueError("it ends too early")
            content = self.decoder.decompress(packed, len(buffer))
        buffer[: len(content)] = content
        self.position += len(content)
        return len(content)
