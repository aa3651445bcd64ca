"""Frames of other languages that say only that the user said it, before a clause left as it was."""

import re
from typing import Final

# In these languages a clause after "that" keeps its order, so the statement stands as it is; in
# German it does not. The user alone may be the one who speaks, as in the English frames.
_FRENCH: Final = (
    r"l'utilisat(?:eur|rice) (?:a |nous a )?(?:dit|précisé|mentionné|indiqué|expliqué|signalé) "
    r"(?:que |qu'(?:il |elle )?)"
)
_SPANISH: Final = (
    r"(?:el usuario|la usuaria) (?:ha )?(?:dijo|dicho|mencionó|mencionado|indicó|indicado|"
    r"comentó|comentado|explicó|explicado) que "
)
_PORTUGUESE: Final = (
    r"(?:o usuário|a usuária|o utilizador|a utilizadora) "
    r"(?:disse|mencionou|indicou|explicou|comentou) que (?:ele |ela )?"
)
_ITALIAN: Final = r"l'utente ha (?:detto|menzionato|indicato|spiegato) che "
_FRAMES: Final = tuple(
    re.compile(frame, re.IGNORECASE) for frame in (_FRENCH, _SPANISH, _PORTUGUESE, _ITALIAN)
)
_JAPANESE: Final = re.compile(
    r"ユーザーは(?P<said>.+?)と(?:話していた|話した|言っていた|言った|述べた|説明した)。?"
)


def unwrapped_elsewhere(folded: str) -> str:
    """Return the statement without its frame, or the text as it is."""
    if match := _JAPANESE.fullmatch(folded):
        return match.group("said") + ("。" if folded.endswith("。") else "")
    for frame in _FRAMES:
        match = frame.match(folded)
        if match and len(folded) - match.end() >= 3:
            return folded[match.end() :]
    return folded
