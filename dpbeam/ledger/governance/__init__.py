"""Which policy a dataset's budget may be spent on: versions, approvals by a second person, the organisation's rules."""
