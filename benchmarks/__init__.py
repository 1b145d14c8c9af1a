"""What this library claims of its speed, measured. See README.md beside this file."""
