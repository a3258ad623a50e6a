"""What a picture or a sound becomes before a model sees it: image.py and audio.py, each complete in itself."""
