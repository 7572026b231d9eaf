"""Logging: one line an event, for people on a terminal and as JSON elsewhere; never a secret."""

import logging
import sys

import structlog

from unisono.server.config import Config


def configure(config: Config) -> None:
    """Send every event to stderr in the configured form."""
    text = config.log_format == "text" or (config.log_format == "auto" and sys.stderr.isatty())
    renderers: list[structlog.typing.Processor] = (
        # plain tracebacks: the pretty ones of rich print local variables, keys among them
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if text
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[config.log_level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
