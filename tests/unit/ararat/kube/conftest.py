from __future__ import annotations

import pytest
import structlog


@pytest.fixture(autouse=True)
def stdlib_logging() -> None:
    """Log lines go through the standard library, so that caplog sees them."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.render_to_log_kwargs,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
