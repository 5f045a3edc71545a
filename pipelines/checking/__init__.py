"""What a release would lose of the data, for its operator in the trust zone: raw figures that no mechanism guards."""
