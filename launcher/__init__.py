"""Plans, schedules, collects and compares trials. Knows Ray Tune and pandas; knows no torch."""
