"""A picture of a page, taken by a browser that is there: Chromium or Chrome, headless."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from drain._rehearse.errors import RehearsalError

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
_BOUND = 60.0  # seconds
_SIZE = "1280,1900"


class PictureError(RehearsalError):
    """No picture. Its text says why."""


def browser() -> str:
    """The program: what CHROME names, or one of the usual names. Raises PictureError."""
    given = os.environ.get("CHROME")
    for name in [given] if given else _NAMES:
        if (found := shutil.which(name)) is not None:
            return found
    raise PictureError("a picture needs Chromium or Chrome: install one, or name it in CHROME")


def take(page: Path, picture: Path, size: str = _SIZE) -> None:
    """Raises PictureError."""
    program = browser()
    root = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chrome's sandbox refuses root
    with tempfile.TemporaryDirectory() as profile:
        command = [
            program, "--headless", "--disable-gpu", "--hide-scrollbars", *root, f"--user-data-dir={profile}",
            f"--window-size={size}", f"--screenshot={picture.absolute()}", page.absolute().as_uri(),
        ]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_BOUND, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PictureError(f"{program}: {error}") from error
    if done.returncode != 0 or not picture.exists():
        raise PictureError(f"{program} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
