"""What a penalty is: a file here with the mathematics as a function of tensors, and `attach`.

    @contextmanager
    def attach(model, start, train, **knobs): ...; yield compute

`attach` ties the penalty to a model for a phase of training (stages.lib.strategies.Penalty): `start` is a frozen copy of
the model as the phase began, in evaluation mode and on the same device, and `train` the Examples that it learns from. A
strategy sets the knobs with functools.partial. `compute`, called after the forward pass of each batch with that batch's
inputs, returns a scalar that is added to the mean loss of the batch.

A penalty sees features through forward hooks on parts of the model, which are gone when the phase ends; it never runs the
model itself, so that training in several processes runs every model once a step. Each process takes the penalty of its own
part of the batch. Where the parts are not equally long, an example that fills one up counts here as any other, although
its weight in the loss is 0.
"""
