"""Configuration: frozen settings, read once, with every mistake found at once.

The loader is our own, on `tomllib` and attrs. typed-settings 26 was tried: its validators run only
once every conversion has succeeded and unknown keys stop it before either, so one run cannot list
all mistakes; its reasons repeat the value, secrets included; and its environment names are fixed
before the file says which tiers there are. (pydantic-settings likewise checks values against each
other only when each is right by itself, and would bring models that are not attrs.)
"""

from bulkhead_trio.config._binds import Address, Bind, PassedDescriptor, SocketPath
from bulkhead_trio.config._identity import IdentitySettings
from bulkhead_trio.config.loader import Explanation, explain_settings, load_settings
from bulkhead_trio.config.mistakes import ConfigurationError, Mistake
from bulkhead_trio.config.settings import DEFAULT_TIERS, Settings, TierSettings

__all__ = [
    "DEFAULT_TIERS",
    "Address",
    "Bind",
    "ConfigurationError",
    "Explanation",
    "IdentitySettings",
    "Mistake",
    "PassedDescriptor",
    "Settings",
    "SocketPath",
    "TierSettings",
    "explain_settings",
    "load_settings",
]
