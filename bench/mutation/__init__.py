"""Mutation check: do the tests notice when a comparison in a rule is wrong?

``python -m bench.mutation`` changes every ``_rules.py`` in one place at a time, runs the tests that
belong to it, and counts which changes they catch.

It is a script of our own, since the two known tools do not do this. mutmut 3 changes the bodies of
functions only: no module constant, no table, no default of a field; and it changes texts and
arguments as well, which is not the question here. cosmic-ray starts an interpreter for every
mutant, 1.2 s each, and writes the mutant into the source file, where it stays if the run is
interrupted. Here a mutant is compiled in memory, in a process forked from one that has imported
everything else.
"""
