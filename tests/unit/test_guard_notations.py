"""Notations, bounds, voice and identity: whole classes that say the same, and their neighbours."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from engram.domain.guard import Kind, examine

SAME = {
    "decimal comma before a unit": [
        ("Is 1,80 m tall.", "Is 1.80 m tall."),
        ("Costs 12,50 €.", "Costs €12.50."),
    ],
    "dollars of a country": [("Costs US$40.", "Costs 40 US dollars.")],
    "unit phrases in the plural": [
        ("Drives at 50 mph.", "Drives at 50 miles per hour."),
        ("The link does 1 Gbps.", "The link does 1 gigabit per second."),
    ],
    "feet and inches": [
        ("Is 6'2\" tall.", "Is 6 feet 2 inches tall."),
        ("Is 6 ft 2 in tall.", "Is six foot two tall."),
    ],
    "a fortnight and a week": [
        ("The course lasts a fortnight.", "The course lasts two weeks."),
        ("Stays for a week.", "Stays for one week."),
    ],
    "number against its unit": [
        ("The meeting lasts 1.5h.", "The meeting lasts 90 minutes."),
        ("Raised 2.5m dollars.", "Raised $2.5 million."),
    ],
    "quarters of a year": [
        ("Q1 2027 is the target.", "The first quarter of 2027 is the target."),
        ("Due in 2026 Q4.", "Due in the fourth quarter of 2026."),
    ],
    "spoken clock": [
        ("Gets up at six thirty am.", "Gets up at 6:30 am."),
        ("The train leaves at 1305 hours.", "The train leaves at 13:05."),
    ],
    "ranges": [
        ("Open from 9am to 5pm.", "Open 9:00 to 17:00."),
        ("Open from 9am to 5pm.", "Open from 9 am until 5 pm."),
        ("Open Mon-Fri.", "Open from Monday through Friday."),
    ],
    "ages": [
        ("Has a five-year-old son.", "Has a son aged 5."),
        ("Has a son who is 5 years old.", "Has a 5-year-old son."),
    ],
    "telephone numbers": [
        ("Call 0049 30 123456.", "Call +49 30 123456."),
        ("Call (030) 555-0199.", "Call 030 5550199."),
        ("Call (415) 555-0100.", "Call 415 555 0100."),
    ],
    "addresses": [
        ("The MAC is AA:BB:CC:00:11:22.", "The MAC is aa-bb-cc-00-11-22."),
        ("The site is www.example.org.", "The site is https://www.Example.org/."),
    ],
    "releases": [
        ("Uses Python 3.11.", "Uses Python v3.11."),
        ("Runs Node 20.", "Runs Node v20."),
    ],
    "abbreviations": [
        ("Works in R&D.", "Works in research and development."),
        ("Is a VP of sales.", "Is a vice president of sales."),
        ("Lives in the U.S.", "Lives in the United States."),
        ("Lt. Kay called.", "Lieutenant Kay called."),
        ("See § 4.2.", "See section 4.2."),
        ("Has an M.Sc.", "Has a master of science."),
        ("The k8s cluster is down.", "The Kubernetes cluster is down."),
    ],
    "bounds": [
        ("Uploads over 25 MB fail.", "Uploads larger than 25 MB fail."),
        ("Uploads over 25 MB fail.", "Uploads of more than 25 MB fail."),
        ("Needs at least 8 GB.", "Needs 8 GB or more."),
    ],
    "duty and ability": [
        ("Must sign the form.", "Has to sign the form."),
        ("Must sign the form.", "Is required to sign the form."),
        ("Must not enter the lab.", "Is not allowed to enter the lab."),
        ("Cannot swim.", "Is unable to swim."),
        ("Any change needs approval from Ann.", "Ann must approve any change."),
    ],
    "contrast": [
        ("Wants tea instead of coffee.", "Wants tea, not coffee."),
        ("Likes dogs but not cats.", "Likes dogs, not cats."),
    ],
    "passive": [
        ("The bill has been paid by Karl.", "Karl has paid the bill."),
        ("The form was not signed by Lea.", "Lea did not sign the form."),
        ("The files are being moved by Kim.", "Kim is moving the files."),
        ("The window was broken by a storm.", "A storm broke the window."),
        ("Dr. Singh operated on her knee.", "Her knee was operated on by Dr. Singh."),
        ("Kim owes Bob 50 euros.", "Bob is owed 50 euros by Kim."),
    ],
    "identity": [
        ("Her favourite colour is green.", "Green is her favorite color."),
        ("The CEO of Orbis is Ann Lee.", "Ann Lee is the CEO of Orbis."),
        ("Bo is the grandfather of Kim.", "Kim's grandfather is Bo."),
        ("The dog's name is Rex.", "The dog is called Rex."),
        ("Torvald, the boss, is away.", "The boss, Torvald, is away."),
    ],
    "converse": [
        ("Bo is the cousin of Kim.", "Kim is Bo's cousin."),
        ("Mara is married to Ivo.", "Ivo and Mara are married."),
        ("Kim is two years older than Bo.", "Bo is two years younger than Kim."),
        ("Lukas arrived before Milena.", "Milena arrived after Lukas."),
        ("Kim earns more than Bo.", "Bo earns less than Kim."),
        ("The cafe is above the bank.", "The bank is below the cafe."),
    ],
    "manner": [
        ("Kim likes cooking.", "Kim likes to cook."),
        ("Kim is going to move.", "Kim will move."),
        ("Kim has no car.", "Kim doesn't have a car."),
        ("There is no lift.", "There isn't a lift."),
        ("Kim no longer smokes.", "Kim doesn't smoke anymore."),
        ("Two years ago Kim moved to Rome.", "Kim moved to Rome two years ago."),
    ],
}
FRAMED = [
    ("L'utilisatrice a dit qu'elle habite à Lyon.", "Habite à Lyon.", True),
    ("El usuario mencionó que vive en Quito.", "Vive en Quito.", True),
    ("O usuário disse que mora em Braga.", "Mora em Braga.", True),
    ("ユーザーは犬を飼っていると話していた。", "犬を飼っている。", True),
    ("Marie a dit qu'elle habite à Lyon.", "Habite à Lyon.", False),
    ("L'utilisatrice a dit qu'elle n'habite pas à Lyon.", "Habite à Lyon.", False),
    ("L'utilisateur pense qu'il habite à Lyon.", "Habite à Lyon.", False),
    ("El usuario negó que vive en Quito.", "Vive en Quito.", False),
    ("ユーザーは犬を飼っていないと話していた。", "犬を飼っている。", False),
]
NEVER = [
    ("Takes vitamin A.", "Takes a vitamin."),
    ("Chose plan A.", "Chose a plan."),
    ("Signs off at six.", "Signed off at six."),
    ("Rooms 1,80 and 90.", "Rooms 1.80 and 90."),
    ("Costs A$40.", "Costs US$40."),
    ("Is 6 ft 2 in tall.", "Is 6 ft 3 in tall."),
    ("Pays 5 euros a week.", "Pays 5 euros for one week."),
    ("Due in Q1 2027.", "Due in Q1 2028."),
    ("Due in Q1.", "Due in a quarter."),
    ("Moved from Monday to Friday.", "Moved from Friday to Monday."),
    ("Open 9 am to 5 pm.", "Open until 5 pm."),
    ("Call 0049 30 123456.", "Call 0043 30 123456."),
    ("The site is http://example.org.", "The site is https://example.org."),
    ("The site is example.org/a.", "The site is example.org/A."),
    ("Uses Python 3.1.", "Uses Python 3.10."),
    ("Lives with us.", "Lives with the United States."),
    ("Needs 8 GB or more.", "Needs 8 GB or less."),
    ("Must not enter.", "Does not have to enter."),
    ("Was able to swim.", "Can swim."),
    ("May not come.", "Must not come."),
    ("Wants tea, not coffee.", "Wants coffee, not tea."),
    ("Kim did not sign the form.", "The form was signed by Kim."),
    ("The form was signed by noon.", "Noon signed the form."),
    ("Kim was paid by Bo.", "Kim paid Bo."),
    ("Dogs are animals.", "Animals are dogs."),
    ("All bosses are nurses.", "All nurses are bosses."),
    ("Bo is Kim's uncle.", "Kim is Bo's uncle."),
    ("Lukas arrived before Milena.", "Milena arrived before Lukas."),
    ("Kim slept before lunch.", "Lunch slept after Kim."),
    ("Kim is two years older than Bo.", "Bo is three years younger than Kim."),
    ("Kim stopped to smoke.", "Kim stopped smoking."),
    ("Kim is going to Rome.", "Kim will Rome."),
    ("Kim has no more cars.", "Kim does not have cars."),
    ("Torvald, the boss, is away.", "Torvald, the boss and Ida, is away."),
    ("Has a five-year-old son.", "Has a son for five years."),
    ("Torvald, the dog, and Ida came.", "The dog Torvald and Ida came."),
    ("Kim is a gift from Bo.", "Bo is a gift from Kim."),
    ("Mara is the heir of Ivo.", "Ivo is the heir of Mara."),
    ("Mara is Ivo's friend's cousin.", "Ivo is Mara's friend's cousin."),
    ("The boss of Kim is Bo.", "The boss of Bo is Kim."),
    ("Kim, the boss, fired Bo.", "Bo, the boss, fired Kim."),
    ("The key of room A is here.", "The key of room B is here."),
    ("Works from 9 to 17:00.", "Works from 9 pm to 17:00."),
    ("Wants a vitamin.", "Wants vitamin A and a vitamin."),
    ("Moved to Rome two years ago.", "Moved to Rome for two years."),
]


@pytest.mark.parametrize(("a", "b"), [p for pairs in SAME.values() for p in pairs])
def test_another_notation_or_side_of_the_same_is_explained(a: str, b: str) -> None:
    assert examine(a, b).kind is Kind.SAME, examine(a, b)
    assert examine(b, a).kind is Kind.SAME, examine(b, a)


@pytest.mark.parametrize(("a", "b"), NEVER)
def test_a_neighbour_of_a_rule_is_never_proven(a: str, b: str) -> None:
    assert not examine(a, b).proves, examine(a, b)
    assert not examine(b, a).proves, examine(b, a)


TEMPLATES = (
    "Q{} 2027 is the target.", "Has a {}-year-old son.", "Uses Python 3.{}.", "Is {},80 m tall.",
    "Call (030) 555-01{}.", "Uploads over {} MB fail.", "Needs {} GB or more.",
    "Trains {}x a week.", "The course lasts {} weeks.", "Moved to Rome {} years ago.",
    "The MAC is AA:BB:CC:00:11:{}.", "Kim is {} years older than Bo.", "Is 6 ft {} in tall.",
)  # fmt: skip


@given(st.sampled_from(TEMPLATES), st.integers(1, 99), st.integers(1, 99))
@settings(max_examples=150, deadline=None)
def test_another_number_in_any_notation_is_never_the_same(
    template: str, one: int, other: int
) -> None:
    assume(one != other)
    a, b = template.format(one), template.format(other)
    assert not examine(a, b).proves, (a, b)


@pytest.mark.parametrize(("framed", "said", "same"), FRAMED)
def test_frames_of_other_languages_go_only_where_the_user_speaks(
    framed: str, said: str, same: bool
) -> None:
    assert examine(framed, said).proves is same
    assert examine(said, framed).proves is same


NAMES = st.sampled_from(["Mara", "Ivo", "Lukas", "Milena", "Torvald", "Saskia", "Bram", "Zora"])
SIDED = ("{} arrived before {}.", "{} earns more than {}.", "{} is two years older than {}.",
         "{} is the uncle of {}.", "The form of {} was signed by {}.", "{}'s boss is {}.",
         "{} must approve the work of {}.", "{} owes {} 50 euros.")  # fmt: skip


@given(st.sampled_from(SIDED), NAMES, NAMES)
@settings(max_examples=100, deadline=None)
def test_roles_that_changed_places_are_never_the_same(template: str, x: str, y: str) -> None:
    assume(x != y)
    assert not examine(template.format(x, y), template.format(y, x)).proves
