"""What the user set for the plugin in napari's preferences (napari 0.9 or newer)."""

from __future__ import annotations

import os

_FOLDER = "HYDRASEG_WEIGHTS"  # what core and command line look at
_ours: list[str] = []  # folders that were put there from here


def use_model_folder() -> None:
    """Let the user's models lie where the preferences say, if they say so.

    The environment variable wins where somebody else has set it.
    """
    wanted = preference("models", "folder")
    now = os.environ.get(_FOLDER)
    if now and now not in _ours:
        return
    if wanted:
        _ours.append(wanted)
        os.environ[_FOLDER] = wanted
    elif now:
        del os.environ[_FOLDER]


def preference(part: str, name: str) -> str:
    """Read one preference; empty where napari knows none.

    Parameters
    ----------
    part, name : str
        As under ``configurations`` in the manifest.
    """
    try:
        from napari.settings import get_plugin_settings

        return str(getattr(getattr(get_plugin_settings("napari-hydraseg"), part), name))
    except (ImportError, AttributeError, KeyError, ValueError):
        return ""
