"""The wheel carries libsabrewing.so: the one that SABREWING_LIBRARY names, else one that is built here with CMake."""

import os
import pathlib
import shutil
import subprocess

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

SONAME = "libsabrewing.so.1"
REPOSITORY = pathlib.Path(__file__).resolve().parent.parent


def built_library() -> pathlib.Path:
    """The library, built in build/wheel of the repository."""
    given = os.environ.get("SABREWING_LIBRARY")
    if given:
        return pathlib.Path(given)
    folder = REPOSITORY / "build" / "wheel"
    configure = ["cmake", "-S", REPOSITORY, "-B", folder, "-DCMAKE_BUILD_TYPE=Release", "-DSABREWING_BUILD_TESTS=OFF"]
    subprocess.run([*configure, *(["-G", "Ninja"] if shutil.which("ninja") else [])], check=True)
    subprocess.run(["cmake", "--build", folder, "--target", "sabrewing_shared", "--parallel"], check=True)
    return folder / "lib" / SONAME


class BuildWithLibrary(build_py):
    def run(self) -> None:
        super().run()
        to = pathlib.Path(self.build_lib) / "sabrewing" / SONAME
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(built_library().resolve(), to)


class PlatformWheel(bdist_wheel):
    """For this platform, for every Python 3: the library does not use Python's interface."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.root_is_pure = False

    def get_tag(self) -> tuple:
        return "py3", "none", super().get_tag()[2]


class WithLibrary(Distribution):
    def has_ext_modules(self) -> bool:
        return True


setup(distclass=WithLibrary, cmdclass={"build_py": BuildWithLibrary, "bdist_wheel": PlatformWheel})
