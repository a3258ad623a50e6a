"""Prefill and decode: from a model that scores the next token to text.

protocol: what a model must offer · loop: the generation loop · naive: its reference · processors: changes to the logits
· sampling: the choice of a token · stopping: when to end · beam: several answers at once · settings: the options ·
generation: `generate` · transitions: how sure it was · streamers and text: text while it grows.
"""

from __future__ import annotations

from plait.generate.generation import GenerateOutput as GenerateOutput
from plait.generate.generation import generate as generate
from plait.generate.loop import generate_tokens as generate_tokens
from plait.generate.processors import LogitsProcessor as LogitsProcessor
from plait.generate.processors import LogitsProcessorList as LogitsProcessorList
from plait.generate.protocol import LanguageModel as LanguageModel
from plait.generate.settings import GenerationConfig as GenerationConfig
from plait.generate.stopping import StoppingCriteria as StoppingCriteria
from plait.generate.stopping import StoppingCriteriaList as StoppingCriteriaList
from plait.generate.streamers import TextIteratorStreamer as TextIteratorStreamer
from plait.generate.streamers import TextStreamer as TextStreamer
