"""Takes one collection out of the archive with all of Ansible's, 24,000 files: unpack.py DOWNLOADED DESTINATION."""

import pathlib
import sys
import zipfile

COLLECTION = "ansible_collections/community/libvirt/"

[archive] = pathlib.Path(sys.argv[1]).glob("ansible-*.whl")
with zipfile.ZipFile(archive) as archive:
    names = [name for name in archive.namelist() if name.startswith(COLLECTION)]
    assert names, f"no {COLLECTION} in {archive.filename}"
    archive.extractall(sys.argv[2], names)
