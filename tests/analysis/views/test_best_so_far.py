from analysis.selection.criteria import Constrained
from analysis.views.best_so_far import best_so_far
from tests.analysis.worlds import student, table, variant


def test_the_best_so_far_beside_standard_distillation():
    rows = [
        student("a", val_class_correct=[9, 3]),
        student("b", "standard", 0.5, 3.0, val_class_correct=[8, 6]),
        student("c", 1.0, "standard", val_class_correct=[2, 8]),
    ]
    best, standard = best_so_far(table(rows), Constrained(margin=0.0)).splitlines()
    words = " ".join(best.split())
    assert words == "best so far 60.0% worst, 70.0% average: standard teacher, α_s = 0.5, T = 3"
    words = " ".join(standard.split())
    assert words == "standard 30.0% worst, 60.0% average: standard distillation"


def test_no_answer_before_standard_distillation_is_trained():
    assert best_so_far(table([])) is None
    assert best_so_far(table([student("a", "standard", 0.5)])) is None


def test_the_selections_options_count():
    rows = [student("a", val_class_correct=[9, 3]), student("b", "standard", 0.5, 3.0)]
    assert "α_s = 0.5" not in best_so_far(table(rows), Constrained(margin=0.0))
    assert "α_s = 0.5" in best_so_far(table(rows), Constrained(margin=0.5))


def test_other_methods_are_no_candidates():
    rows = [student("a", val_class_correct=[9, 3])]
    better = variant("b", "kd", val_class_correct=[10, 10])
    assert best_so_far(table([*rows, better])) == best_so_far(table(rows))
    assert best_so_far(table([better])) is None
