"""What methods are made of: the protocol they meet, and mathematics that several of them share.

``protocol`` and ``adaptive`` import no torch; ``losses``, ``correlation`` and ``fusion`` do.
"""
