"""The mathematics of language-model post-training as machine-proved claims.

Importing this package loads every subject and checks the registry.
"""

from importlib import import_module
from pkgutil import iter_modules

from grape_spec.language.registry import check_registry, package_ends
from grape_spec.proof.prove import check_domains

#: What works on subjects and is none.
TOOLS = {"evaluate", "jets", "outside", "references", "render"}

#: The subjects, a file each. A file imports those that it builds on, whose entries come before its own.
SUBJECTS = tuple(sorted({module.name for module in iter_modules(__path__) if not module.ispkg} - TOOLS))

for subject in SUBJECTS:
    import_module(f"grape_spec.{subject}")

#: Derivations for people, in a package of their own: the files of subjects are as long as a section may be.
DERIVATIONS = tuple(sorted(module.name for module in iter_modules([f"{__path__[0]}/derivations"])))

for module in DERIVATIONS:
    import_module(f"grape_spec.derivations.{module}")

check_registry()
check_domains()
package_ends()
