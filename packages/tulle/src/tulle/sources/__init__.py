"""Where configuration comes from: each source yields raw objects with the place they were written."""
