"""Solutions: one for each exercise. TRAPS.md says what goes wrong most often."""
