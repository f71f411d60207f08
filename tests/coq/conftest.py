"""A session of Coq for the tests that need one; they are skipped, with words, where Coq is not installed."""

import shutil

import pytest
from grape_spec.coq import certify
from grape_spec.coq.coqtop import LIBRARY, CoqMissing, Session, compile_library, version


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


@pytest.fixture
def compiled(coq_folder, monkeypatch):
    """The library is not compiled again by each run."""

    def copied(folder):
        for name in LIBRARY:
            shutil.copy(coq_folder / f"{name}.vo", folder)

    monkeypatch.setattr(certify, "compile_library", copied)
