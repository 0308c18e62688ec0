"""Security headers for browsers. The server adds them to every response, including those it writes itself."""

from typing import Final

#: Pages may load only files of their own origin, and no inline script or style. All responses carry the same policy,
#: which has no effect on a response that is not a page.
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
    # Without CORS a page of another origin cannot even embed a response.
    ("cross-origin-resource-policy", "same-origin"),
)
