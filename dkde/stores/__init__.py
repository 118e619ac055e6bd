"""Bytes in storage: folders, buckets, chunks, and files written completely."""
