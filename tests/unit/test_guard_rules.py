"""Each rule of the guard: what it explains, and the neighbour it must not."""

import pytest

from engram.domain.guard import Kind, Reason, examine

SAME = {
    "case and punctuation": [
        ("Prefers Tabs, Not Spaces.", "prefers tabs, not spaces"),
        ("doesnt eat meat", "Doesn't eat meat."),
        ("the users cat is named miso", "The user's cat is named Miso."),
    ],
    "wrapper": [
        ("The user mentioned that they play golf.", "Plays golf."),
        ("FYI, the gate is locked.", "The gate is locked."),
        ("Fact about the project: the docs live in Git.", "The docs live in Git."),
    ],
    "number": [
        ("Holds 1,200 seats.", "Holds twelve hundred seats."),
        ("Owns two dozen hens.", "Owns 24 hens."),
        ("Sold 1.5 million copies.", "Sold one and a half million copies."),
    ],
    "quantity": [
        ("Weighs 2500 g.", "Weighs 2.5 kg."),
        ("The timeout is 1m30s.", "The timeout is 90 seconds."),
        ("The quota is 0.5 TB.", "The quota is 500 GB."),
        ("A third of the staff is new.", "1/3 of the staff is new."),
    ],
    "money": [
        ("Pays $1,200.", "Pays 1200 USD."),
        ("The fee is €54k.", "The fee is 54,000 euros."),
    ],
    "time": [
        ("The call is at 3pm.", "The call is at 15:00."),
        ("Leaves at a quarter to six in the evening.", "Leaves at 17:45."),
        ("Standup at 13:00 UTC.", "Standup at 14:00 CET."),
    ],
    "date": [
        ("Born on 7 September 1988.", "Born on 1988-09-07."),
        ("Due on Sept. 7th.", "Due on the 7th of September."),
        ("Rehearses every Tuesday.", "Rehearses on Tuesdays."),
    ],
    "identifier": [
        ("Call +49 30 2301 250.", "Call +49302301250."),
        ("Flight is KX 481.", "Flight is KX481."),
        ("Uses version 4.2 of the app.", "Uses v4.2 of the app."),
    ],
    "synonym": [
        ("Her dad is a lawyer.", "Her father is an attorney."),
        ("Bought a second-hand bike.", "Purchased a used bicycle."),
        ("Dr. Patel works at St. Luke's.", "Doctor Patel works at Saint Luke's."),
    ],
    "spelling": [
        ("Recieved the parcel.", "Received the parcel."),
        ("Works with childern.", "Works with children."),
        ("The colour is grey.", "The color is gray."),
    ],
    "order": [
        ("If the build breaks, notify Sam.", "Notify Sam if the build breaks."),
        ("Likes jazz, opera and folk.", "Likes folk, jazz and opera."),
        ("In 2017 they moved to Oslo.", "They moved to Oslo in 2017."),
    ],
    "voice and converse": [
        ("Orbis hired Maya in 2018.", "Maya was hired by Orbis in 2018."),
        ("Omar reports to Helena.", "Helena manages Omar."),
        ("Oscar sold the van to Bettina.", "Bettina bought the van from Oscar."),
        ("Sergei is older than Vadim.", "Vadim is younger than Sergei."),
        ("Mina gave Paolo a lamp.", "Mina gave a lamp to Paolo."),
    ],
}
DIFFERENT = {
    Reason.NUMBER: [("Owns 3 bikes.", "Owns 4 bikes."), ("Wants a lamp.", "Wants lamps.")],
    Reason.DATE_TIME: [
        ("The exam is on 3 June.", "The exam is on 3 July."),
        ("The call is at 9 am.", "The call is at 9 pm."),
        ("The review is on Monday.", "The review is on Mondays."),
    ],
    Reason.QUANTITY: [
        ("The link is 10 Mb/s.", "The link is 10 MB/s."),
        ("Costs 20 dollars.", "Costs 20 euros."),
    ],
    Reason.IDENTIFIER: [
        ("Runs Node v18.1.", "Runs Node v18.10."),
        ("The token is aQz9.", "The token is aqZ9."),
    ],
    Reason.NEGATION: [
        ("The port is open.", "The port is not open."),
        ("Owen plays squash.", "Owen stopped playing squash."),
        ("The path is secure.", "The path is insecure."),
    ],
    Reason.MODALITY: [("Must file a form.", "May file a form.")],
    Reason.SCOPE: [("All orders ship free.", "Some orders ship free.")],
    Reason.TENSE: [("Lives in Riga.", "Lived in Riga.")],
    Reason.NAME: [("He asked for Anna Kovac.", "He asked for Ida Kovac.")],
    Reason.ATTRIBUTE: [("The sofa is green.", "The sofa is blue.")],
    Reason.ROLE: [("Marta hired Luis.", "Luis hired Marta.")],
    Reason.ORDER: [("Prefers tea to coffee.", "Prefers coffee to tea.")],
    Reason.CASE: [("He wants Polish lessons.", "He wants polish lessons.")],
}
NEVER_MERGED = [
    ("Allergic to raw eggs and milk.", "Allergic to raw milk and eggs."),
    ("The doctor in Rome rang the flat in Paris.", "The doctor in Paris rang the flat in Rome."),
    ("Ann, a nurse, and Ben, a pilot, came.", "Ann, a pilot, and Ben, a nurse, came."),
    ("Two kids, Tariq (9) and Salma (6).", "Two kids, Salma (9) and Tariq (6)."),
    ("Few people came.", "A few people came."),
    ("Maya said the vendor is reliable.", "The vendor is reliable."),
    ("The tool is free.", "The tool is free for students."),
    ("Works with Jon.", "Works with Joan."),
    ("No, tests pass.", "No tests pass."),
    ("The exam is on 03/06/2024.", "The exam is on 06/03/2024."),
    ("Never calls.", "Never calls at night."),
    ("Has hyperthyroidism.", "Has hypothyroidism."),
    ("She puts milk in first.", "She put milk in first."),
    ("Leaves at four in the morning.", "Leaves at four in the afternoon."),
    ("Met on Monday to plan the trip on Friday.", "Met on Friday to plan the trip on Monday."),
]  # fmt: skip


@pytest.mark.parametrize(("a", "b"), [p for pairs in SAME.values() for p in pairs])
def test_a_rule_explains_another_notation_or_order_of_the_same(a: str, b: str) -> None:
    assert examine(a, b).kind is Kind.SAME, examine(a, b)
    assert examine(b, a).kind is Kind.SAME, examine(b, a)


@pytest.mark.parametrize(
    ("reason", "a", "b"), [(r, *p) for r, pairs in DIFFERENT.items() for p in pairs]
)
def test_a_change_of_fact_is_named_by_its_reason(reason: Reason, a: str, b: str) -> None:
    verdict = examine(a, b)
    assert verdict.kind is Kind.DIFFERENT
    assert verdict.reason is reason
    assert examine(b, a).reason is reason


@pytest.mark.parametrize(("a", "b"), NEVER_MERGED)
def test_what_only_looks_the_same_is_not_proven(a: str, b: str) -> None:
    assert not examine(a, b).proves
    assert not examine(b, a).proves


@pytest.mark.parametrize(
    ("large", "small"),
    [
        ("The user sold the piano in March to a school.", "The user sold the piano."),
        ("The deploy failed because the disk was full.", "The deploy failed."),
        ("Allergic to bees; carries an adrenaline pen.", "Allergic to bees."),
        ("Has two sons, Ben and Arlo.", "Has two sons."),
        ("Ilse is a school nurse in Ghent.", "Ilse is a nurse."),
    ],
)
def test_the_text_that_holds_the_other_survives(large: str, small: str) -> None:
    assert examine(large, small).kind is Kind.CONTAINS_A
    assert examine(small, large).kind is Kind.CONTAINS_B


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("não come carne", "Não come carne.", True),
        ("Den Mietern ist das erlaubt.", "Den Mietern ist das nicht erlaubt.", False),
        ("他每天坐地铁上班。", "他每天坐地铁上班", False),
        ("El piso cuesta 950 euros.", "El piso cuesta 590 euros.", False),
        ("Il mange du pain et du fromage.", "Il mange du fromage et du pain.", False),
    ],
)
def test_in_other_languages_only_the_same_words_merge(a: str, b: str, same: bool) -> None:
    assert examine(a, b).proves is same
