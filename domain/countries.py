"""Countries by their codes of two letters (ISO 3166-1 alpha-2): which codes there are.

Registers name countries for the transfers of GDPR Art. 30(1)(e). A code that looks like one and is none (UK for GB, EL
for GR) would make a record that judges a transfer to nowhere; so the registers take only these.
"""

from __future__ import annotations

from typing import Final

_WRITTEN: Final = """
AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ
CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO
FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE
JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO
MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW
PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM
TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW
"""
ASSIGNED: Final = frozenset(_WRITTEN.split())
"""The 249 that ISO has assigned."""

KOSOVO: Final = "XK"
"""Of those that ISO leaves to its users, the one that the European Commission and many others use."""

COUNTRIES: Final = ASSIGNED | {KOSOVO}
