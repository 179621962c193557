"""The public names of core: verbs, whatever was imported before them."""

import subprocess
import sys

import pytest

CODE = """
import {first}
from napari_hydraseg import core
{then}
for verb in ("finetune", "pretrain", "shift"):
    assert callable(getattr(core, verb)), verb
"""


@pytest.mark.parametrize("verb", ["finetune", "pretrain", "shift"])
def test_a_verb_is_not_hidden_by_the_module_of_its_name(verb):
    code = CODE.format(first=f"napari_hydraseg.core.{verb}", then="core.mmd")
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == 0


def test_a_neighbour_of_a_verb_does_not_hide_it():
    code = CODE.format(first="sys", then="core.mmd; core.finetune")
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == 0


def test_an_unknown_name_is_an_attribute_error():
    from napari_hydraseg import core

    with pytest.raises(AttributeError, match="nonsense"):
        _ = core.nonsense
    assert set(dir(core)) == set(core.__all__)
