"""Who asks, secrets and signatures: callers, the noise secret, the signing key, signed receipts.

Absent: what a receipt proves, which is `certify.receipts`.
"""
