"""Research data: what each nightly job does, its runs, and what people ask of them.

    a night → runs → per company: dates, prices, rates, documents, statements → metrics

What a metric is, and why one is missing, is explained in docs/metrics.md.
"""
