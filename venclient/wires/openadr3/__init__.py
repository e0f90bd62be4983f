"""A VTN that follows the published OpenADR 3 API: history is stored as reports (docs/other-vtns.md).

A report holds a month of a load, or a day or an hour of it; it is created once, and replaced as a whole from then on.
`wire` makes its calls; `encoding` and `decoding` convert points to and from reports. Each module is imported by itself:
settings need `form`, and nothing of HTTP and tokens.
"""
