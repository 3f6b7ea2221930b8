"""What is chosen for a machine, and what a run that goes on keeps."""

import sys

import pytest
import torch

from chatgpt_cli.config.schema import HardwareSection
from chatgpt_cli.errors import ConfigError
from chatgpt_cli.training import device
from chatgpt_cli.training.device import as_before, choose_hardware

AUTO = HardwareSection(compile=True)


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that multiplies 8-bit numbers fast and has a compiler."""
    monkeypatch.setattr(device, "_int8_is_fast", lambda _: True)
    monkeypatch.setattr(device, "int8_is_possible", lambda: True)
    monkeypatch.setattr(device, "missing_compiler", lambda _: None)


@pytest.mark.usefixtures("fast")
def test_8_bits_in_training_that_is_compiled() -> None:
    assert choose_hardware(AUTO, int8_training="auto").int8
    assert "int8" in str(choose_hardware(AUTO, int8_training="auto"))
    assert not choose_hardware(AUTO, int8_training="if set").int8
    assert not choose_hardware(AUTO).int8
    short = HardwareSection(compile=False)
    assert not choose_hardware(short, int8_training="auto").int8
    wanted = short.model_copy(update={"int8_training": True})
    assert choose_hardware(wanted, int8_training="auto").int8
    assert choose_hardware(wanted, int8_training="if set").int8
    assert not choose_hardware(wanted).int8
    unwanted = AUTO.model_copy(update={"int8_training": False})
    assert not choose_hardware(unwanted, int8_training="auto").int8


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("missing", ["_int8_is_fast", "int8_is_possible"])
def test_not_where_it_is_slow_or_cannot_be(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, missing, lambda *_: False)
    assert not choose_hardware(AUTO, int8_training="auto").int8


def test_asked_for_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "int8_is_possible", lambda: False)
    wanted = HardwareSection(int8_training=True)
    with pytest.raises(ConfigError, match="int8_training needs a CPU whose"):
        choose_hardware(wanted, int8_training="auto")
    # A command that does not train has no use for it.
    assert not choose_hardware(wanted).int8


@pytest.mark.skipif(sys.platform == "win32", reason="not looked for there")
def test_compiling_needs_the_very_compiler_that_pytorch_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CXX", "ccache g++")
    assert not choose_hardware(HardwareSection(), long_run=True).compile
    with pytest.raises(ConfigError, match=r"hardware\.compile needs ccache g\+\+"):
        choose_hardware(AUTO)
    assert not choose_hardware(HardwareSection(compile=False), long_run=True).compile


def test_a_run_goes_on_with_what_it_began_with() -> None:
    chosen: dict[str, str | int] = {"device": "cpu", "precision": "float32", "attention": "sdpa"}
    # A run of a version that knew no 8 bits.
    assert as_before(AUTO, chosen).int8_training is False
    for on in (True, False):
        assert as_before(AUTO, {**chosen, "int8_training": on}).int8_training is on
    wanted = AUTO.model_copy(update={"int8_training": True})
    assert as_before(wanted, chosen).int8_training is True
    assert as_before(AUTO, chosen).precision == "float32"
    # Another device chooses for itself; so does a new run.
    assert as_before(AUTO, {**chosen, "device": "cuda"}) == AUTO
    assert as_before(AUTO, {}) == AUTO


def test_the_probe_compares_the_shortest_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """One quiet moment among busy ones is enough to tell."""
    spent = {"one": iter([9, 9, 2, 9, 9, 9, 9]), "other": iter([9, 4, 9, 9, 9, 9, 9])}
    now = 0.0

    def tick() -> float:
        return now

    def product(name: str) -> torch.Tensor:
        nonlocal now
        now += next(spent[name]) / 100
        return torch.ones(1, 1)

    monkeypatch.setattr(device.time, "perf_counter", tick)
    share = device._share_of_time(lambda: product("one"), lambda: product("other"))
    assert share == pytest.approx(0.5)


def test_the_probe_leaves_the_threads_as_they_were() -> None:
    before, seen = torch.get_num_threads(), set()

    def product() -> torch.Tensor:
        seen.add(torch.get_num_threads())
        return torch.ones(1, 1)

    torch.set_num_threads(2)
    try:
        device._share_of_time(product, product)
        assert (seen, torch.get_num_threads()) == ({1}, 2)
    finally:
        torch.set_num_threads(before)
