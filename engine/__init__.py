"""engine: the same numbers, faster and in less memory. You may skip it: tests prove that the numbers are the same."""
