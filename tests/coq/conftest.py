"""A session of Coq for the tests that need one; they are skipped, with words, where Coq is not installed."""

import pytest
from grape_spec.coq.coqtop import CoqMissing, Session, compile_library, version


@pytest.fixture(scope="session")
def coq_folder(tmp_path_factory):
    try:
        version()
        folder = tmp_path_factory.mktemp("coq")
        compile_library(folder)
    except CoqMissing as missing:
        pytest.skip(str(missing))
    return folder


@pytest.fixture(scope="session")
def coq(coq_folder):
    with Session(coq_folder) as session:
        yield session
