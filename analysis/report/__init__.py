"""The report: everything there is to see of a sweep, in one HTML file that opens offline.

What belongs here: what the page shows (one small module for each part of it), and the page itself
(``page.html``, ``page.css``, ``page.js``). What does not: any figure that is not a way of looking
at records; the selection and its statistics are made elsewhere, and only shown here.

    python -m analysis.report results/cifar10
"""
