"""The losses as their equations read, on lists of Python floats; slow and obvious."""

import math


def softmax(row, tau=1.0):
    top = max(row)
    exps = [math.exp((value - top) / tau) for value in row]
    return [value / sum(exps) for value in exps]


def divergence(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def decoupled(p, q, label, tau):
    """TCKD and NCKD of one sample, times tau squared."""
    off = [c for c in range(len(p)) if c != label]
    rest_p, rest_q = sum(p[c] for c in off), sum(q[c] for c in off)
    tckd = divergence([p[label], rest_p], [q[label], rest_q])
    nckd = divergence([p[c] / rest_p for c in off], [q[c] / rest_q for c in off]) if rest_p > 0 else 0.0
    return tau**2 * tckd, tau**2 * nckd


def pearson(a, b):
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    covariance = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    variances = sum((x - mean_a) ** 2 for x in a) * sum((y - mean_b) ** 2 for y in b)
    return covariance / math.sqrt(variances)


def relations(p, q, taus):
    """Inter- and intra-class loss of a batch of distributions."""
    samples, classes = len(p), len(p[0])
    inter = sum(tau**2 * (1 - pearson(a, b)) for a, b, tau in zip(p, q, taus, strict=True)) / samples
    columns = [1 - pearson([row[c] for row in p], [row[c] for row in q]) for c in range(classes)]
    return inter, sum(tau**2 for tau in taus) / samples * sum(columns) / classes


def standardised(row):
    mean = sum(row) / len(row)
    variance = sum((value - mean) ** 2 for value in row) / len(row)
    return [(value - mean) / math.sqrt(variance + 1e-7) for value in row]
