"""Makes the archives beside it with Python's own zip writer. Run it in this directory."""

import pathlib
import zipfile

HERE = pathlib.Path(__file__).parent


def make(name, compression=zipfile.ZIP_STORED, comment=b"", force_zip64=False, twice=False):
    with zipfile.ZipFile(HERE / name, "w", compression) as archive:
        archive.comment = comment
        for member in ("a/first", "a/second", "a/empty"):
            info = zipfile.ZipInfo(member)
            info.compress_type = compression
            with archive.open(info, "w", force_zip64=force_zip64) as out:
                out.write(b"" if member == "a/empty" else member.encode() * 3)
        if twice:
            archive.writestr("a/first", b"again")


make("stored.zip")
make("zip64_headers.zip", force_zip64=True)
make("deflated.zip", compression=zipfile.ZIP_DEFLATED)
make("comment.zip", comment=b"after the end")
make("twice.zip", twice=True)
