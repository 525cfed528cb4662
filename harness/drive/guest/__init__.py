"""What it takes to test a server that is not ours without doing harm.

It is asked before it is touched (:mod:`.asking`), told what will be done to it (:mod:`.announcing`), what it
is owed is written down before each transition (:mod:`.owed`) and given back whatever happens
(:mod:`.giving_back`), and what others send to it meanwhile is counted (:mod:`.staying`).
"""
