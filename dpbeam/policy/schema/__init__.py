"""The policy as pydantic models, key by key."""
