"""The places that models come from: one file per kind of hub."""
