"""Better than each site alone? One sentence, from the tables' own numbers."""

from segviz_trainer.study.answer import answer
from segviz_trainer.study.results import IN_FEDERATION, Cost, Results, ScoredCase
from segviz_trainer.study.tables import build_tables

ALONE = (0.50, 0.52, 0.48, 0.51, 0.49, 0.53)
TOGETHER = (0.80, 0.83, 0.75, 0.82, 0.78, 0.85)


def results(*cases: ScoredCase, algorithms: tuple[str, ...] = ("Local", "FedBN")) -> Results:
    found = Results("default/demo", organs=["liver", "spleen"], baseline="Local")
    found.methods = [method for row in algorithms for method in (row, f"{row}+FT")]
    found.costs = [Cost(row, row, "PerOrganHead", 2, 2, 2, 1.0, 1, 1.0, 1, 1, 1) for row in algorithms]
    found.cases = list(cases)
    return found


def scored(method: str, organ: str, *values: float, table: str = IN_FEDERATION) -> list[ScoredCase]:
    return [
        ScoredCase(table, method, "basel", organ, f"case{number}", {"Dice": value}, missed=False)
        for number, value in enumerate(values)
    ]


def said(found: Results) -> str:
    return answer(found, build_tables(found))


def test_it_counts_organs_and_says_both_means() -> None:
    found = results(
        *scored("Local", "liver", *ALONE),
        *scored("Local", "spleen", *TOGETHER),
        *scored("FedBN", "liver", *TOGETHER),
        *scored("FedBN", "spleen", *TOGETHER),
    )
    assert said(found) == (
        "Federated beats alone on 1 of 2 organs of the sites' own test cases: mean Dice 0.81 against 0.66 "
        "(FedBN against Local). In paired tests over cases, 1 of 2 differences holds (p < 0.05 after Holm's "
        "correction)."
    )


def test_each_side_is_its_best_chosen_alike() -> None:
    found = results(
        *(each for organ in ("liver", "spleen") for each in scored("Local", organ, *ALONE)),
        *(each for organ in ("liver", "spleen") for each in scored("Local+FT", organ, *TOGETHER)),
        *(each for organ in ("liver", "spleen") for each in scored("FedBN", organ, *ALONE)),
        *(each for organ in ("liver", "spleen") for each in scored("FedBN+FT", organ, *ALONE[::-1])),
    )
    assert "beats alone on 0 of 2 organs" in said(found)
    assert "(FedBN against Local+FT)" in said(found)


def test_external_sets_are_told_in_the_same_sentence() -> None:
    found = results(
        *(
            case
            for table in (IN_FEDERATION, "btcv")
            for organ in ("liver", "spleen")
            for method, values in (("Local", ALONE), ("FedBN", TOGETHER))
            for case in scored(method, organ, *values, table=table)
        )
    )
    sentence = said(found).partition(" In paired")[0]
    assert sentence.endswith("; on 2 of 2 of the external set btcv: 0.81 against 0.51 (FedBN against Local).")


def test_without_a_row_that_shares_nothing_there_is_no_answer() -> None:
    cases = [each for organ in ("liver", "spleen") for each in scored("FedBN", organ, *TOGETHER)]
    assert said(results(*cases, algorithms=("FedBN", "CentralMarginal"))) == ""


def test_the_method_that_the_manifest_names_is_the_one_that_is_told_of() -> None:
    found = results(
        *(each for organ in ("liver", "spleen") for each in scored("Local", organ, *ALONE)),
        *(each for organ in ("liver", "spleen") for each in scored("FedBN", organ, *ALONE)),
        *(each for organ in ("liver", "spleen") for each in scored("FedBN+FT", organ, *TOGETHER)),
    )
    found.under_test = "FedBN"
    assert "beats alone on 0 of 2 organs" in said(found)
    assert "(FedBN against Local)" in said(found)


def test_one_case_is_told_to_be_too_few() -> None:
    found = results(
        *(each for organ in ("liver", "spleen") for each in scored("Local", organ, 0.5)),
        *(each for organ in ("liver", "spleen") for each in scored("FedBN", organ, 0.8)),
    )
    assert said(found).endswith("No difference could be tested: there are no case rows, or too few.")
