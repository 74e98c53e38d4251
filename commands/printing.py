"""What a command prints."""

from core.log_setup import harmless
from utils.redaction import redact


def show(text: str) -> None:
    """Print what may hold words of the exchange, without secrets and control characters."""
    print(harmless(redact(text)))
