"""The report's templates, which lie in `templates`, and what its scripts unpack."""

import gzip
from base64 import b64encode

from nas.templates import Templates

html = Templates("nas.report").html


def packed(content: bytes) -> str:
    """Compressed, as text for a script of the page; the same for the same content."""
    return b64encode(gzip.compress(content, mtime=0)).decode()
