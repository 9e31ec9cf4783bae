"""Each runs as it stands, from the repository's root. README.md has the table."""
