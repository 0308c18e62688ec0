"""What every answer says to browsers; the server writes it, so that it is on what it answers by itself, too."""

from typing import Final

#: What a page may load and do: nothing from elsewhere, no script or style but those of its own files. One policy for
#: all answers: what is no page does nothing with it.
CONTENT_SECURITY_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
SECURITY_HEADERS: Final = (
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    # To load it, not only to read it, a page of another origin must ask (CORS).
    ("cross-origin-resource-policy", "same-origin"),
)
