"""Model folders: in and out of the form that Hugging Face transformers reads."""
