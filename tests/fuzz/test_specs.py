"""Specs as JSON: every text that the parser accepts is complete and usable."""

import json

from hypothesis import strategies as st
from pydantic import ValidationError

from rkd_core import records
from rkd_core.specs import TrainingSpec, Variant, array_key, family_id, run_id
from tests.fuzz.cases import changed_json, edited, edits, fuzz, json_changes, json_forms
from tests.rkd_core.specs.test_spec import STUDENT, TEACHER

VARIANT = STUDENT.model_copy(
    update={"variant": Variant(method="dkd", options={"others_weight": 2.0}), "temperature": 4.0}
)
VALID = [json.loads(spec.model_dump_json()) for spec in (TEACHER, STUDENT, VARIANT)]
both = st.sampled_from(VALID)


def check(content):
    """Assert that a parsed spec can be used in every way that the program does."""
    try:
        spec = TrainingSpec.model_validate_json(content)
    except ValidationError:
        return
    assert TrainingSpec.model_validate_json(spec.model_dump_json()) == spec
    identity = run_id(spec, "data")
    assert len(identity) == len(family_id(spec, "data")) == 20
    hash(array_key(spec))
    row = records.identity(spec, identity, "data")
    assert records.serialize(row)
    assert spec.recipe.views >= 1


@fuzz(1500, valid=both, changes=json_changes, form=json_forms)
def test_changed_fields(valid, changes, form):
    check(changed_json(valid, changes, form))


@fuzz(700, valid=both, changes=edits())
def test_changed_bytes(valid, changes):
    check(edited(json.dumps(valid).encode(), changes))
