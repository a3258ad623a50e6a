"""Models: one file per family, and what they share. Importing this imports nothing.

| file | complete for |
|---|---|
| registry.py | which families there are |
| family.py | what the file of a family holds |
| decoders.py, encoders.py, coders.py, t5_names.py | what families of one kind share |
| config.py, reader.py | config.json, and reading it so that no key goes unnoticed |
| positions.py, mixture.py | how configurations write rotary positions, windows and experts |
| auto.py, absent.py, options.py | the `Auto…` classes, those not there yet, the arguments of `from_pretrained` |
| files.py, gguf.py, initial.py | from files to a model, or to new weights |
| pretrained.py, names.py | what every model can do, and what its parameters are called |
| model.py, seq2seq.py, table.py | one stack, two stacks, a stack that reads tables: arguments in, outputs out |
| reading.py | the decoder of two stacks, bound to its sources, as generation wants it |
| inputs.py, tasks.py, outputs.py | what goes in, what each task makes of it, what comes back |
| shift.py, table_answers.py | what a decoder reads while it learns; learning from the answers of tables alone |
| placement.py, dispatch.py, quantise.py, resize.py, head_mask.py | surgery on a model that is built |
| describe.py, probe.py, memory.py | what a model is made of, and what this CPU does best |
"""
