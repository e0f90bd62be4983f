"""How long a server asks to be left alone (RFC 9110 §10.2.3)."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import requests

MAX_RETRY_AFTER_S = 600.0


def retry_after_s(response: requests.Response) -> float | None:
    """Retry-After in seconds from now, given as seconds or as a date; None where there is none to be understood."""
    text = response.headers.get("Retry-After", "").strip()
    if not text:
        return None
    try:
        seconds = float(text) if text.isdigit() else (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):  # TypeError: a date without a zone
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S)
