"""The inputs of GRAPE: rubrics, verifiers, critics, and the tensors that they make of responses.

Nothing here is imported by `import grape_verified`. YAML files need the package PyYAML, `LanguageModelCritic` a model
and a tokenizer of `transformers`; both come with `pip install 'grape-verified[transformers]'`.
"""

from grape_verified.rubrics import critics, evaluator, rubric, verifiers
from grape_verified.rubrics.critics import *
from grape_verified.rubrics.evaluator import *
from grape_verified.rubrics.rubric import *
from grape_verified.rubrics.verifiers import *

__all__: list[str] = []
__all__ += critics.__all__
__all__ += evaluator.__all__
__all__ += rubric.__all__
__all__ += verifiers.__all__
