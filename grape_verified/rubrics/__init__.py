"""What surrounds GRAPE's mathematics: rubrics, verifiers, critics, and from responses to the tensors that it reads.

Nothing here is imported by `import grape_verified`. YAML files need the package PyYAML, `LanguageModelCritic` a model
and a tokenizer of `transformers`; both come with `pip install 'grape-verified[transformers]'`.
"""

from grape_verified.rubrics.critics import Critic, LanguageModelCritic, Verdict
from grape_verified.rubrics.evaluator import Evaluation, evaluate
from grape_verified.rubrics.rubric import Rubric, RubricItem, load_rubrics
from grape_verified.rubrics.verifiers import ExactAnswer, RegularExpression, UnitTestRun, UnitTests, Verifier

__all__ = [
    "Critic",
    "Evaluation",
    "ExactAnswer",
    "LanguageModelCritic",
    "RegularExpression",
    "Rubric",
    "RubricItem",
    "UnitTestRun",
    "UnitTests",
    "Verdict",
    "Verifier",
    "evaluate",
    "load_rubrics",
]
