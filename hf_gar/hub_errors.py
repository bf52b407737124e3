"""The errors of the Hugging Face Hub, and of the way to it, said so that one knows what to do."""

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from hf_gar.errors import HfGarError

# What the Hub's client raises where no answer came at all: the root of the errors of the HTTP library that its version
# is built on (requests, httpx), which its own errors derive from.
_ANCESTORS = HfHubHTTPError.__mro__
TRANSPORT_ERROR: type[BaseException] = _ANCESTORS[_ANCESTORS.index(OSError) - 1]

# How the client's error begins, a bare RuntimeError, when it gives up an upload.
FAILED_UPLOAD = "Error while uploading"

REMEDIES = {
    401: "The token was rejected: log in again with `hf auth login`, or fix HF_TOKEN.",
    403: "The token has no right to do this: log in as a member of the organisation, with a token that may write.",
    409: "It exists already, or was changed at the same time: run the command again.",
    412: "It was changed at the same time: run the command again.",
    429: "There were too many requests: wait some minutes, and run the command again.",
}


@contextmanager
def hub_errors(name: str) -> Iterator[None]:
    """Turn the errors of the Hub about the repository `name` into a HfGarError that says what to do.

    What was transferred before stays: the same command resumes from there.
    """
    try:
        yield
    except HFValidationError as error:
        raise HfGarError(f"{name}: on the Hub a repository is named organisation/name, or user/name.") from error
    except LocalTokenNotFoundError as error:
        raise HfGarError(f"{name}: the Hub wants a token. Log in with `hf auth login`, or set HF_TOKEN.") from error
    except GatedRepoError as error:
        raise HfGarError(f"{name}: ask for access on its page on the Hub, and log in with `hf auth login`.") from error
    except RevisionNotFoundError as error:
        raise HfGarError(f"{name} has no such revision: {error}. Name a branch, tag or commit of it.") from error
    except RepositoryNotFoundError as error:
        raise HfGarError(
            f"{name} is not a repository on the Hub that you can read. Check the name, and log in with `hf auth login` "
            "if it is private, or again if your token was replaced."
        ) from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise HfGarError(f"{name}: {_unreachable(error)}") from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        remedy = REMEDIES.get(status or 0, "Run the command again: what was transferred is not transferred twice.")
        raise HfGarError(f"{name}: the Hub refused ({status}): {error}\n{remedy}") from error
    except EntryNotFoundError as error:
        raise HfGarError(f"{name} lacks a file: {error}") from error
    except (TRANSPORT_ERROR, ConnectionError) as error:
        raise HfGarError(f"{name}: {_unreachable(error)}") from error
    except RuntimeError as error:
        if not str(error).startswith(FAILED_UPLOAD):
            raise
        raise HfGarError(f"{name}: {_unreachable(error)}") from error


def _unreachable(error: BaseException) -> str:
    return (
        f"the Hub could not be reached: {error}\nCheck the network (HF_HUB_OFFLINE, HF_ENDPOINT), and run the command "
        "again: what was transferred is not transferred twice."
    )
