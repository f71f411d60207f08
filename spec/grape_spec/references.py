"""Citations: the works that the spec draws on, and claims themselves, as BibTeX."""

from __future__ import annotations

import re
from importlib.resources import files

from grape_spec.language.claims import Claim

_ENTRY = re.compile(r"^@\w+\{([^,]+),.*?^\}$", re.MULTILINE | re.DOTALL)


def works() -> dict[str, str]:
    """Every entry of ``references.bib`` by its key."""
    text = files("grape_spec").joinpath("references.bib").read_text(encoding="utf-8")
    return {match.group(1): match.group(0) for match in _ENTRY.finditer(text)}


def bibtex(claim: Claim, version: str) -> str:
    """BibTeX for a claim of this spec, followed by the entry of the work that it comes from."""
    title = claim.text.rstrip(".").replace("π*", r"$\pi^*$").replace("β", r"$\beta$").replace("ε", r"$\varepsilon$")
    own = (
        f"@misc{{grape_verified:{claim.id},\n"
        f"  author       = {{{{grape\\_verified contributors}}}},\n"
        f"  title        = {{{title}}},\n"
        f"  howpublished = {{grape\\_verified {version}, claim \\texttt{{{claim.id.replace('_', chr(92) + '_')}}}}},\n"
        f"  note         = {{SHA-256 of the statement: {claim.hash}}}\n"
        f"}}"
    )
    source = works().get(claim.source.key)
    return f"{own}\n\n{source}" if source else own
