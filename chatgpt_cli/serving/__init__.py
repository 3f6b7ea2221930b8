"""A model behind an HTTP interface: OpenAI's, and a page to chat on."""
