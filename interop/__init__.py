"""The same questions to fastserve and to Feast 0.67, on data that either wrote: `make interop`.

file              runs in       what
run.sh            -             prepares both environments and starts pytest
setup.sh          -             the second environment, .venv-feast: Feast, and fastserve beside it
bank/             both          the repository and its rows; `features.py` has what only Feast can define
feast_side.py     Feast's       applies, materializes, pushes; answers questions through Feast's SDK
both_sides.py     Feast's       both packages in one process
fastserve_side.py ours          answers questions through fastserve's SDK
writing_side.py   both          defines and writes the bank through either: command line and SDK
registry_side.py  Feast's       a registry as plain data
questions.py      ours          random questions
differences.py    ours          the deliberate differences of answers, one function each
comparing.py      ours          answers beside answers
contents.py       ours          stores beside stores
registries.py     ours          registries beside registries
facts.py          ours          what the repository has
repositories.py   ours          folders in which both define the same bank
prepared.py       ours          the bank as Feast wrote it, and the questions about it
sides.py          ours          starts and stops the processes
forked.py         ours          processes of Feast's that need not import it: forked by
zygote.py         Feast's       which has
template_side.py  Feast's       what `feast init` writes
remote_client.py  Feast's       Feast's remote client
surface.py        both          the methods of a FeatureStore
test_interop.py   ours          Feast writes: asks all sides and compares
test_remote.py    ours          the same through fastserve's remote client
test_plugin.py    ours          the same through Feast on fastserve's core
test_written.py   ours          fastserve writes: compares stores, registries and answers; both take turns
test_templates.py ours          the repositories of `feast init`, over SDKs, servers and remote clients
exchange.py, tagged.py         both          questions, answers and values, as they go from one to the other
"""
