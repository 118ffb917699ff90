"""What counts prove about an input: certificates, and the procedures that say when to stop.

Holds the certificate and the only way to make one, the procedures, and other claims from the same votes. Absent:
drawing, clocks and state: a claim is a pure function of counts and of terms that were fixed before the first draw.
"""
