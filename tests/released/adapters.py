"""Each method's loss terms on the inputs of a released case: a function per method, case -> our term -> their terms.

A function builds the method with the case's options and inputs, and returns its weighted terms and, for each of them,
the names of the released terms that it holds.
"""

import torch

BOTH = ("image", "text")


def assign(method, **parameters):
    """Put leaves in the place of a module's parameters, so that they receive the gradients."""
    for path, value in parameters.items():
        module, name = method, path
        while "." in name:
            first, name = name.split(".", 1)
            module = module.get_submodule(first)
        if name in module._parameters:
            del module._parameters[name]
        module._buffers.pop(name, None)
        setattr(module, name, value)
    return method


def swapped(names):
    """ "image positive" is their "positive_image"."""
    return {name: ["_".join(reversed(name.split(" ", 1))).replace(" ", "_")] for name in names}


def own_rows(case):
    """Label rows of a batch that is a training set of its own."""
    return case.x["labels"], torch.arange(len(case.x["labels"]))


def batch_only(case, method, outputs=None, rename=None):
    """A method that has no banks."""
    labels, rows = own_rows(case)
    outputs = outputs or {name: case.x[name] for name in BOTH}
    terms = method.loss_terms(outputs, {}, labels, rows)
    return terms, (rename or swapped)(terms)


def write(method, outputs, bank, rows, after):
    """Write the banks as the loop does, and compare them with those of the release, `after`: bank -> (n, k)."""
    for name, codes in method.bank_codes(outputs).items():
        bank[name][rows] = codes.detach()
    assert set(after) == set(method.bank_codes(outputs))
    for name, expected in after.items():
        assert torch.allclose(bank[name], expected, atol=1e-6), name
