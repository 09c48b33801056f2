"""Alarms of a drift monitor: how often they are false, and how soon they come."""
