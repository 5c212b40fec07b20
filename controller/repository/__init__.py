"""Repositories: made once, found again, opened with derived passwords."""
