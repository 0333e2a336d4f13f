"""summary: what a network is made of, as text, HTML and graphs."""

from jscope._summary._summary import Summary, summary

__all__ = ["Summary", "summary"]
