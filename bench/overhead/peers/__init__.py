"""What people would use instead, each used as its own documentation says.

A peer is imported when it is made: one that is not installed is listed as such, and the rest is
measured all the same. All of them are typed as ``Any`` here, since whoever checks these types need
not have them.
"""
