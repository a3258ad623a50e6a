"""The `AutoModel…` classes of pictures and sound, complete: which there are, and that plait has no such models yet.

Each says so when it is used, with the classes that there are; a script that names one but does not use it runs.
"""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn

from plait.errors import OptionError


class _Absent:
    """A class without models."""

    of: ClassVar[str]

    def __init__(self) -> None:
        self._refuse()

    @classmethod
    def from_pretrained(cls, *arguments: Any, **options: Any) -> NoReturn:
        """Raises OptionError."""
        cls._refuse()

    @classmethod
    def from_config(cls, *arguments: Any, **options: Any) -> NoReturn:
        """Raises OptionError."""
        cls._refuse()

    @classmethod
    def _refuse(cls) -> NoReturn:
        raise OptionError(
            f"{cls.__name__} has no models yet: plait reads models of text, and none of {cls.of}. For texts there are "
            "AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification and others."
        )


class AutoModelForImageClassification(_Absent):
    """A label for a picture."""

    of = "pictures"


class AutoModelForImageClassificationWithAttention(_Absent):
    """The same, with the weights of attention."""

    of = "pictures"


class AutoModelForImageSegmentation(_Absent):
    """A label for each part of a picture."""

    of = "pictures"


class AutoModelForImageSuperResolution(_Absent):
    """A picture of more points."""

    of = "pictures"


class AutoModelForImageToImage(_Absent):
    """A picture from a picture."""

    of = "pictures"


class AutoModelForObjectDetection(_Absent):
    """What is where in a picture."""

    of = "pictures"


class AutoModelForSemanticSegmentation(_Absent):
    """A label for each point of a picture."""

    of = "pictures"


class AutoModelForVision2Seq(_Absent):
    """Text from a picture."""

    of = "pictures"


class AutoModelForVisionTextDualEncoder(_Absent):
    """Vectors of pictures and of texts in one space."""

    of = "pictures"


class AutoModelForAudioClassification(_Absent):
    """A label for a sound."""

    of = "sound"


class AutoModelForCTC(_Absent):
    """The letters of each moment of speech."""

    of = "sound"


class AutoModelForSpeechClassification(_Absent):
    """Another name of AutoModelForAudioClassification."""

    of = "sound"


class AutoModelForSpeechSeq2Seq(_Absent):
    """Text from speech; an encoder and a decoder."""

    of = "sound"


class AutoModelForSpeechToText(_Absent):
    """Another name of AutoModelForSpeechSeq2Seq."""

    of = "sound"


class AutoModelForTextToSpeech(_Absent):
    """Speech from text."""

    of = "sound"
