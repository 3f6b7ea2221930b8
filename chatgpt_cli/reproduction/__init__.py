"""What a run was made of and with, and whether it can be made again."""
