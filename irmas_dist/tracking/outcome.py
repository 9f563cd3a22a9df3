"""What the terminal shows of W&B: where runs are, and what was not uploaded."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from threading import Thread

from irmas_dist.config.tracking import TrackingSettings
from irmas_dist.errors import listed
from irmas_dist.terminal import say
from irmas_dist.tracking.server import address, kept_message
from irmas_dist.tracking.uploads import Upload, uploads

INTERRUPTED_WAIT_S = 5.0
"""How long an interrupted command waits for uploads."""

LAST_S = 10.0
"""How long to wait for what is done after the uploads."""

addresses: list[str] = []
"""What `show_address` has shown, to be shown at the end again."""

afterwards: list[Callable[[], str | None]] = []
"""What to do once everything is uploaded; what is returned is shown as an address."""


def show_address(settings: TrackingSettings, kind: str, name: str) -> None:
    """Show the address of a page of the project on the terminal, as soon as it is known.

    Args:
        settings: Names the project.
        kind: What the page shows: ``runs`` or ``groups``.
        name: Identity of the run, or name of the group.
    """

    def show() -> None:
        try:
            url = address(settings, kind, name)
        except Exception:  # noqa: BLE001 - the uploads tell the reason
            return
        addresses.append(url)
        say(f"W&B: {url}")

    Thread(target=show, daemon=True).start()


@contextmanager
def awaiting_uploads(seconds: float) -> Iterator[None]:
    """After the block, wait for uploads, and tell what was not uploaded.

    Args:
        seconds: How long to wait at most; after an interruption it is less.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        _finish_uploads(min(seconds, INTERRUPTED_WAIT_S))
        raise
    except BaseException:
        _finish_uploads(seconds)
        raise
    _finish_uploads(seconds)


def _finish_uploads(seconds: float) -> None:
    begun = uploads.wait(seconds)
    left = [upload for upload in begun if not upload.sent]
    if untold := [upload for upload in left if upload.problem not in uploads.told]:
        say(not_sent(untold, begun))
    elif begun and not left:
        for work in afterwards:
            shown: list[str] = []  # Its own: one that is late finds nobody who reads it.
            thread = Thread(target=lambda do=work, to=shown: to.append(do() or ""), daemon=True)
            thread.start()
            thread.join(LAST_S)
            addresses.extend(shown)
        count = len(run_names(begun))
        done = f"{count} {'run' if count == 1 else 'runs'} uploaded"
        say(" ".join([f"W&B: {done}", *filter(None, addresses)]))
    addresses.clear()
    afterwards.clear()


def run_names(begun: Iterable[Upload]) -> list[str]:
    """Return the name of each run that uploads are of; a resumed run has several."""
    names: dict[str, str] = {}
    for upload in begun:
        names.setdefault(upload.file.name, upload.name)
    return list(names.values())


def not_sent(left: Sequence[Upload], begun: Sequence[Upload]) -> str:
    """Return the line that says which runs were not uploaded, why, and what to do.

    Args:
        left: The uploads that were not sent.
        begun: All uploads.
    """
    problems = list(dict.fromkeys(upload.problem for upload in left if upload.problem))
    names = run_names(left)
    return (
        f"W&B: {len(names)} of {len(run_names(begun))} runs not uploaded "
        f"({'; '.join(problems) or 'the time was too short'}): {listed(names)}; "
        + kept_message(left[0].directory)
    )
