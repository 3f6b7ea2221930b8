"""Reports: self-contained HTML pages, without scripts, in English and Chinese."""
