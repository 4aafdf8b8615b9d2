"""Report of a sweep as one HTML file that opens offline.

Each part of the page has its own module; the page itself is ``page.html``, ``page.css`` and
``page.js``. The selection and its statistics are computed elsewhere and only shown here.

    python -m analysis.report results/cifar10
"""
