"""The faults of buckets in words, each in one line, without the content of a request."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from dkde.errors import DataSetError, DkdeError

# Patterns in the text of errors, and their meanings; the first match counts. The errors' own text
# is a page each. The order matters: a specific code comes before a general one.
_MEANINGS = (
    (r"NoSuchBucket|ContainerNotFound|bucket does not exist", "there is no such bucket"),
    (
        r"<Code>(ExpiredToken|InvalidToken|TokenRefreshRequired|RequestExpired)",
        "the credentials' token is invalid or has expired; get new credentials",
    ),
    (
        r"<Code>(PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocationConstraint)"
        r"|\b301 |[Mm]issing region",
        "the bucket is in another region; name it (AWS_DEFAULT_REGION)",
    ),
    (
        r"<Code>RequestTimeTooSkewed",
        "this machine's clock is wrong; set it",
    ),
    (
        r"169\.254\.|latest/api/token|metadata\.google|[Cc]redential|[Ii]dentity|NoSignRequest",
        "no credentials were found; set them as for the cloud's own tools, for s3:// with "
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    ),
    (
        r"\b40[13] |AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch",
        "access was denied; check the credentials, and what they allow",
    ),
    (r"BadScheme", "the endpoint is http and not https; allow that with AWS_ALLOW_HTTP=true"),
    (
        r"error sending request|onnect|[Tt]imed ?[Oo]ut|dns error",
        "no connection; check the network and the endpoint (AWS_ENDPOINT_URL)",
    ),
)


@contextmanager
def told(where: str) -> Iterator[None]:
    """Report a fault in one line, without the content of the request.

    Parameters
    ----------
    where : str
        The URL.

    Raises
    ------
    DataSetError
    """
    try:
        yield
    except (DkdeError, MemoryError):
        raise
    except Exception as error:
        # Without the cause: obstore's text is a page, and holds the whole request.
        raise DataSetError(f"{where}: {meaning_of(error)}") from None


def meaning_of(error: Exception) -> str:
    """Return what an error of obstore means, in words."""
    text = str(error)
    for pattern, meaning in _MEANINGS:
        if re.search(pattern, text):
            return meaning
    # Never the text itself: it may quote the answer, and the answer may quote the request.
    code = re.search(r"<Code>(\w{1,60})</Code>", text) or re.search(r"status code: (\d{3})\b", text)
    return f"could not be read or written ({code[1] if code else type(error).__name__})"
