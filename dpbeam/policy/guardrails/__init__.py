"""The guardrails of an organisation: a file above all policies, which none of them can loosen."""
