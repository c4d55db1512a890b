"""The law as data: effective-dated, cited rows, and the set of them that is in force on a given day.

Every legal number that a decision rests on is a row in one of the `.toml` files of this folder, with the
days it is in force, its source and a note. Nothing in the code repeats one. `rules_on(day)` gives the rows of
a day as a `RuleSet`; a decision records `RuleSet.version`, so that it can be replayed under the same rules.

The rows are starting facts, not legal advice, and are to be checked before they are relied on.
"""

from domain.law.rows import LawError
from domain.law.rules import OptOutLimit, Regime, RuleSet, law_with, rules_named, rules_on

__all__ = ["LawError", "OptOutLimit", "Regime", "RuleSet", "law_with", "rules_named", "rules_on"]
