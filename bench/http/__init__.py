"""Speed: how many requests a second one core serves, beside the peers at the same jobs.

And the event loop as a bulkhead: what a paced caller notices while another tier is flooded.
"""
