"""Content encodings, as a stream: every piece is flushed, so that a reader sees each token when it is sent."""

import zlib

import brotli
import zstandard


class _Zlib:
    def __init__(self, wbits):
        self.z = zlib.compressobj(6, zlib.DEFLATED, wbits)

    def piece(self, data):
        return self.z.compress(data) + self.z.flush(zlib.Z_SYNC_FLUSH)

    def end(self):
        return self.z.flush(zlib.Z_FINISH)


class _Brotli:
    def __init__(self):
        self.z = brotli.Compressor(quality=5)

    def piece(self, data):
        return self.z.process(data) + self.z.flush()

    def end(self):
        return self.z.finish()


class _Zstd:
    def __init__(self):
        self.z = zstandard.ZstdCompressor(level=3).compressobj()

    def piece(self, data):
        return self.z.compress(data) + self.z.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)

    def end(self):
        return self.z.flush(zstandard.COMPRESSOBJ_FLUSH_FINISH)


class _Identity:
    def piece(self, data):
        return data

    def end(self):
        return b""


def encoder(name):
    """A compressor with `piece(bytes)` and `end()`; None is identity."""
    if name == "gzip":
        return _Zlib(31)
    if name == "deflate":
        return _Zlib(15)
    if name == "br":
        return _Brotli()
    if name == "zstd":
        return _Zstd()
    return _Identity()


def decode(data, names):
    """Undoes a Content-Encoding header's value (the last named was applied last); raises ValueError if it cannot."""
    for name in reversed([n.strip().lower() for n in names.split(",") if n.strip()]):
        try:
            if name in ("gzip", "x-gzip"):
                data = zlib.decompress(data, 31)
            elif name == "deflate":
                data = zlib.decompress(data, 15)
            elif name == "br":
                data = brotli.decompress(data)
            elif name == "zstd":
                data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
            elif name != "identity":
                raise ValueError(f"unknown content encoding {name}")
        except (zlib.error, brotli.error, zstandard.ZstdError) as err:
            raise ValueError(f"{name}: {err}") from err
    return data
