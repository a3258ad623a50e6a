"""Streams: chains of small iterables over blocks of rows, each with an exact position to stop at and go on from."""
