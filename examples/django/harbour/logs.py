"""Log lines as Cloud Logging understands them: one JSON object a line, with a severity.

A line that is written while a request is answered carries that request's trace, so that Logs Explorer
shows both together.
"""

import json
import logging
from contextvars import ContextVar

# The `logging.googleapis.com/trace` of the request that this context answers.
_trace: ContextVar[str] = ContextVar("trace", default="")


class JsonFormatter(logging.Formatter):
    """Formats a record as one structured line."""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        if record.exc_info:
            # With the traceback in the message, Error Reporting groups it.
            message = f"{message}\n{self.formatException(record.exc_info)}"
        entry = {
            "severity": record.levelname,
            "message": message,
            "logger": record.name,
            "logging.googleapis.com/sourceLocation": {
                "file": record.pathname,
                "line": str(record.lineno),
                "function": record.funcName,
            },
        }
        if trace := _trace.get():
            entry["logging.googleapis.com/trace"] = trace
        entry.update(getattr(record, "fields", {}))
        return json.dumps(entry, default=str)


class TraceMiddleware:
    """Remembers the trace of each request for the lines that are written meanwhile."""

    def __init__(self, get_response):
        from django.conf import settings

        self.get_response = get_response
        self.project = settings.PROJECT_ID

    def __call__(self, request):
        trace, _, _ = request.headers.get("X-Cloud-Trace-Context", "").partition("/")
        token = _trace.set(f"projects/{self.project}/traces/{trace}" if trace else "")
        try:
            return self.get_response(request)
        finally:
            _trace.reset(token)
