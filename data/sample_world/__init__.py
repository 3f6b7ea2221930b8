"""A small world of people, things and places, told in English and Chinese in parallel."""
