"""What images are called now, whatever they were called when something was said of them."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["ImageNames"]


class ImageNames:
    """The names of images that were found under other names than before."""

    def __init__(self) -> None:
        self._now: dict[str, str] = {}  # of a former name the next one

    def __bool__(self) -> bool:
        return bool(self._now)

    def rename(self, names: Mapping[str, str]) -> None:
        """Take in what images are called now, by their names before."""
        for before, now in names.items():
            self._now.pop(now, None)  # an image that has a former name again
            self._now[before] = now

    @property
    def former(self) -> dict[str, str]:
        """What images are called now, by each former name."""
        return {before: self.now(before) for before in self._now}

    def now(self, image: str) -> str:
        """What an image is called now."""
        while image in self._now:
            image = self._now[image]
        return image
