"""What each part of the default rule is worth, and what the rule gives where it was not chosen."""
