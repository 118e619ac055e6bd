"""Bytes in their places: folders, buckets, chunks, and files that are written whole."""
