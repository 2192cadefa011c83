"""The report's templates, which lie in `templates`."""

from nas.templates import Templates

html = Templates("nas.report").html
