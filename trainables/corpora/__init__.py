"""Corpora: manifests, the store that trials share, and the sample that ships with the package."""
