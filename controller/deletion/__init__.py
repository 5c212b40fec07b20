"""Deletion: the only thing that removes what is stored."""
