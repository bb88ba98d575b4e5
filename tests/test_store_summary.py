from made.stores import made_facts

from kerasbalance.data.errors import Note
from kerasbalance.data.store.summary import summarise


def facts(n, **changes):
    return made_facts(f"{n}" * 32, **{"patient": f"p{n}", "patient_spelling": f"s{n}", **changes})


def test_an_empty_store_gives_zeros():
    summary = summarise([])
    assert (summary.cases, summary.patients, summary.slices, summary.organs) == (0, 0, 0, ())
    assert (summary.slice_spacing_mm, summary.hu_percentiles, summary.warnings) == ((), (), ())


def test_shares_count_only_the_cases_that_annotate_the_organ():
    one = facts(1, shape=(4, 16, 12), organs=("liver",), positive_slices=(2,), organ_hu=((50.0, 60.0, 70.0),))
    two = facts(2, shape=(6, 16, 12), organs=("spleen", "liver"), positive_slices=(0, 6),
                organ_hu=((), (80.0, 90.0, 99.0)))  # fmt: skip
    liver, spleen = summarise([one, two]).organs
    assert (liver.organ, liver.cases, liver.slices, liver.positive_slices) == ("liver", 2, 10, 8)
    assert liver.positive_share == 0.8
    assert liver.hu_median == (60.0, 75.0, 90.0)
    assert (spleen.slices, spleen.positive_share, spleen.hu_median) == (6, 0.0, ())


def test_a_single_slice_has_no_spacing_between_slices():
    single = facts(1, shape=(1, 16, 12), spacing_mm=(None, 0.5, 0.5), positive_slices=(0, 0))
    other = facts(2, spacing_mm=(3.0, 1.0, 1.0), positive_slices=(0, 0))
    assert summarise([single, other]).slice_spacing_mm == (3.0, 3.0, 3.0)
    assert summarise([single, other]).pixel_spacing_mm == (0.5, 0.75, 1.0)
    assert summarise([single]).slice_spacing_mm == ()


def test_what_a_user_should_read_is_told():
    loud, quiet = Note("TILT", "tilted", loud=True), Note("PADDING", "padded")
    cases = [
        facts(1, notes=(loud, quiet), positive_slices=(0, 0)),
        facts(2, shape=(4, 8, 8), patient="p1", patient_spelling="other", positive_slices=(0, 0)),
    ]
    summary = summarise(cases)
    assert summary.patients == 1
    assert [text.split(":")[0] for _, text in summary.warnings] == ["TILT", "PATIENT_SPELLING", "SIZES"]
    assert summary.warnings[0][0] == "11111111"
    assert summary.sizes == {"16 x 12": 1, "8 x 8": 1}


def test_a_spread_of_pixel_spacings_suggests_their_median_as_one_pixel_size():
    def suggested(*sides):
        made = [facts(n, spacing_mm=(3.0, s, s), positive_slices=(0, 0)) for n, s in enumerate(sides)]
        return summarise(made).suggested_spacing_mm

    assert suggested(0.6, 0.7, 0.9) == 0.7
    assert suggested(0.7, 0.76) is None
