"""The screen: the only place for napari, qtpy, magicgui and superqt."""
