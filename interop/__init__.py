"""The same questions to fastserve and to Feast, on data that Feast wrote: `make interop`.

file              runs in       what
run.sh            -             prepares both environments and starts pytest
setup.sh          -             the second environment, .venv-feast: Feast, and fastserve beside it
bank/             Feast's       the repository and its rows
feast_side.py     Feast's       applies, materializes, pushes; answers questions through Feast's SDK
both_sides.py     Feast's       both packages in one process
fastserve_side.py ours          answers questions through fastserve's SDK
questions.py      ours          random questions
differences.py    ours          the deliberate differences, one function each
facts.py          ours          what the repository has
sides.py          ours          starts and stops the processes
test_interop.py   ours          asks all sides and compares
exchange.py, tagged.py         both          questions, answers and values, as they go from one to the other
"""
