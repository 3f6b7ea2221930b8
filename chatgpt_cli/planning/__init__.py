"""What a project will cost, and what would suit it better, before any hour is spent."""
