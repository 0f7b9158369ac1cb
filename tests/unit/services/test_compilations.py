"""What the child that compiles may take."""

import dataclasses

from tests.estimators import dumped, iris_pipeline
from tests.world import World
from webapp.ml.passport import Compilation, Passport
from webapp.services.compilations import Compilations


def compile_within(world: World, memory_bytes: int, passport: Passport) -> Compilation:
    """Compile a model where a check may take so much memory."""
    settings = dataclasses.replace(world.settings, check_memory_bytes=memory_bytes)
    compilations = Compilations(settings, world.parts.store, world.parts.registry)
    with world.app.app_context():
        return compilations.compile_now(passport)


def test_a_model_whose_compiling_fails_says_why_in_fields(world: World) -> None:
    passport = Passport.from_dict(
        world.upload("iris", dumped(iris_pipeline)).json["data"]["passport"]
    )
    found = compile_within(world, 2**20, passport)
    (line,) = world.events(message="A model was not compiled")
    assert (line["level"], line["reason"]) == ("INFO", found.reason)
    assert line["digest"] == passport.sha256
    assert line["exception"].startswith("Traceback (most recent call last):\n")
    assert "_compile" in line["exception"]  # what fails for want of memory differs


def test_compiling_has_the_memory_that_the_operator_allows(world: World) -> None:
    uploaded = world.upload("iris", dumped(iris_pipeline)).json["data"]
    passport = Passport.from_dict(uploaded["passport"])
    assert compile_within(world, 2**20, passport).engine == "sklearn"
    assert compile_within(world, 2**31, passport).engine == "onnx"
