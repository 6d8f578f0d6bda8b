"""engine: the same numbers, faster and in less memory, and a forecast of that. You may skip it: tests prove it."""
