"""The lifecycle of a release, from the request to what is published or settled."""
