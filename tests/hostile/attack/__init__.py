"""The hostile suite's tools: raw clients, a recording upstream, the three positions of a proxy, the table of rows."""
