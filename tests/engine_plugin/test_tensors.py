"""Everything a model holds is found: what is forgotten is neither given back nor restored."""

import torch
from torch import nn

from harness.engine_plugin.tensors import buffers, checksums_of_buffers, model_tensors, tensors_in


class Adapted(nn.Module):
    """A layer with a tensor in each place that vLLM uses."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(2, 2)
        self.register_buffer("rotary", torch.ones(2), persistent=False)
        self.scale = torch.ones(2)
        self.slots = (torch.ones(2), [torch.ones(2), {"a": torch.ones(2)}])


class TestModelTensors:
    """Finding a model's tensors."""

    def test_finds_plain_attributes(self) -> None:
        """Parameters, buffers that no checkpoint has, and tensors nested in plain attributes."""
        layer = Adapted()

        found = {id(tensor) for tensor in model_tensors([nn.Sequential(layer)])}

        assert {id(layer.base.weight), id(layer.base.bias), id(layer.rotary), id(layer.scale)} <= found
        assert {id(tensor) for tensor in tensors_in(layer.slots)} <= found
        assert len(found) == 7

    def test_of_several_models(self) -> None:
        """A draft model's tensors count as well."""
        assert len(list(model_tensors([nn.Linear(2, 2), nn.Linear(2, 2)]))) == 4


class TestBuffers:
    """What level 2 keeps."""

    def test_are_the_buffers_only(self) -> None:
        """What survives level 2 is buffers, persistent or not; plain tensors are lost, as on a GPU."""
        model = Adapted()

        (buffer,) = buffers([model])

        assert buffer is model.rotary


class TestChecksums:
    """What buffers are compared by."""

    def test_tell_which_buffer_changed(self) -> None:
        """Each has its own, whatever its shape and type, and parameters have none."""
        model = Adapted()
        model.register_buffer("scale_of_keys", torch.tensor(1.0))
        before = checksums_of_buffers(model)
        model.get_buffer("rotary").zero_()
        after = checksums_of_buffers(model)

        assert before.keys() == {"rotary", "scale_of_keys"}
        assert {name for name in before if before[name] != after[name]} == {"rotary"}


class TestTensorsIn:
    """Looking into containers."""

    def test_ignores_everything_else(self) -> None:
        """Strings, numbers and None, which configurations are full of, hold no tensors."""
        assert list(tensors_in([None, "text", 1, {"a": (2.0, object())}])) == []
