"""Held-out text is known by its content, whatever tokenizer and packing it went through."""



