"""Blob storage behind one protocol: Azure Blob Storage, or a directory."""
