"""Pairs that say the same in other words, to calibrate a space with; written for engram."""

from __future__ import annotations

from typing import Final

_PAIRS: Final = (
    ("Lives in Lisbon and works from home.", "Works from home; home is Lisbon."),
    ("Prefers short answers without introductions.", "Wants replies brief, with no preamble."),
    ("Has a daughter named Ines who is five.", "Ines, aged five, is the user's daughter."),
    ("Drinks no coffee after noon.", "Coffee is off the table once it is past midday."),
    ("The staging server is restarted every night.", "Every night staging gets a restart."),
    ("Is learning Portuguese with a private teacher.", "Takes private Portuguese lessons."),
    ("Reports are sent to Marta on Fridays.", "Marta gets the reports each Friday."),
    ("Cannot eat anything with peanuts.", "Peanuts in any form must be avoided in meals."),
    ("The invoice template is stored in the wiki.", "You find the invoice template in the wiki."),
    ("Runs ten kilometres before breakfast.", "A 10 km run precedes breakfast."),
    ("Wrote a book about medieval bridges.", "Is the author of a book on medieval bridges."),
    ("The office moves to Porto in May.", "In May the office will relocate to Porto."),
    ("Uses Vim for all programming.", "All coding is done in Vim."),
    ("Their cat is called Nimbus.", "Nimbus is the name of their cat."),
    ("Never schedules calls on Wednesdays.", "Wednesdays are kept free of calls."),
    ("The database is backed up at 02:00.", "Backups of the database run at 2 am."),
    ("Married to Jonas since 2014.", "Jonas and the user have been married since 2014."),
    ("Sold the car and now cycles to work.", "Goes to work by bicycle, having sold the car."),
    ("Enjoys hiking in the Alps in summer.", "Summer hikes in the Alps are a pleasure."),
    ("Pull requests need two approvals.", "Two approvals are required on each pull request."),
    ("Grew up on a farm in Moravia.", "Spent childhood on a Moravian farm."),
    ("Works as a nurse on the night shift.", "Is a night-shift nurse."),
    ("The logo must not be stretched.", "Do not stretch the logo."),
    ("Plays the cello in an amateur orchestra.", "Is cellist of an amateur orchestra."),
    (
        "The API limits each key to 100 requests a minute.",
        "Each API key may send 100 requests/min.",
    ),
    ("Asked to be called Sam instead of Samantha.", "Would rather go by Sam than Samantha."),
    ("Keeps receipts for seven years.", "Receipts are kept for a period of seven years."),
    ("Is afraid of flying and takes trains.", "Travels by train because of a fear of flying."),
    ("The launch was postponed to October.", "October is the new date of the launch."),
    ("Has two brothers, both older.", "Two older brothers are the siblings."),
    ("Tests are run before every merge.", "Before each merge the tests are run."),
    ("Lost the passport in Madrid.", "The passport went missing in Madrid."),
    ("Reads science fiction before going to sleep.", "Science fiction is the bedtime reading."),
    ("The heating is switched off from April.", "From April on the heating stays off."),
    ("Owns a bakery near the station.", "A bakery close to the station belongs to the user."),
    ("Dark mode is used in every application.", "Every app is set to dark mode."),
    ("The contract ends on 31 March.", "The contract runs until March 31."),
    ("Vegetarian for ten years.", "Has eaten no meat for ten years."),
    ("Lea takes over support next week.", "Next week support is handed over to Lea."),
    ("Meetings are recorded unless somebody objects.", "If nobody objects, meetings are recorded."),
)


def shipped() -> list[tuple[str, str, str]]:
    """Return (id, a, b) of each pair."""
    return [(str(number), a, b) for number, (a, b) in enumerate(_PAIRS, 1)]
