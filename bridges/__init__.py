"""Doors to what the field runs on: trainers and engines. docs/doors.md says which is for whom."""
