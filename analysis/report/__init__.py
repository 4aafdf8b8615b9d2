"""The report of a sweep: one HTML file that opens offline.

Each part of the page has a module; the page itself is ``page.html``, ``page.css`` and ``page.js``.
The selection and its statistics are computed elsewhere and only shown here.

    python -m analysis.report results/cifar10
"""
