"""Networks that other people wrote, each read by skood as its user would."""
