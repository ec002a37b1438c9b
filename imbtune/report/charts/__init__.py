"""The figures: functions from a frame to an Altair chart."""
