"""The documentation site: pages from the spec and from recorded evidence, around chapters by hand."""
