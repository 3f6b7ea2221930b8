"""The forms that rows come in, recognised by their fields."""
