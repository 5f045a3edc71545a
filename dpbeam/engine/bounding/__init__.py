"""What each privacy unit may contribute, chosen by keyed hashes."""
