"""A Python for 64-bit Arm in a folder, run by an emulator.

Nothing is installed: Debian's packages and the wheels are unpacked into one
folder, and QEMU's user mode looks there for what a program opens.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata

EMULATORS = ("qemu-aarch64", "qemu-aarch64-static")
# The newest glibc first: pip takes the names of platforms literally.
PLATFORMS = tuple(f"manylinux_2_{n}_aarch64" for n in range(36, 16, -1)) + (
    "manylinux2014_aarch64",
)
# What a processor calls itself in /proc/cpuinfo: its part number and features.
# LiteRT crashes where that file describes a processor that is not of Arm.
PROCESSORS = {
    "cortex-a53": ("0xd03", "fp asimd crc32 cpuid"),
    "cortex-a72": ("0xd08", "fp asimd crc32 cpuid"),
    "cortex-a76": (
        "0xd0b",
        "fp asimd crc32 atomics fphp asimdhp cpuid asimdrdm asimddp",
    ),
}


class ArmPython:
    """A Python for 64-bit Arm with numpy and LiteRT.

    Args:
        folder: where it is, or where to put it: 250 MB. It needs Debian with
            `apt-get`, `dpkg-deb` and `pip` the first time.

    Raises:
        ValueError: there is no emulator.
        RuntimeError: a package could not be had.
    """

    def __init__(self, folder):
        self.folder = pathlib.Path(folder).resolve()
        found = [path for name in EMULATORS if (path := shutil.which(name))]
        if not found:
            raise ValueError(
                "An emulator is needed, the command qemu-aarch64 or "
                "qemu-aarch64-static, which Debian has in its packages "
                "qemu-user and qemu-user-static. Received: neither on PATH"
            )
        self._emulator = found[0]
        if not (self.folder / "ready").exists():
            self._fetch()

    def run(self, processor, arguments):
        """Runs it.

        Args:
            processor: a key of `PROCESSORS`.
            arguments: those of `python`, a list of strings.

        Raises:
            RuntimeError: another exit status than 0, with all that was
                written.
        """
        part, features = PROCESSORS[processor]
        info = self._system / "proc" / "cpuinfo"
        info.parent.mkdir(exist_ok=True)
        lines = (
            "processor\t: 0",
            f"Features\t: {features}",
            "CPU implementer\t: 0x41",
            "CPU architecture: 8",
            "CPU variant\t: 0x0",
            f"CPU part\t: {part}",
            "CPU revision\t: 0",
        )
        info.write_text("\n".join(lines) + "\n\n")
        _call(
            [
                self._emulator,
                *("-cpu", processor),
                *("-L", self._system),
                self._python,
                *arguments,
            ],
            env={
                "PYTHONPATH": str(self.folder / "site"),
                "PYTHONDONTWRITEBYTECODE": "1",
            },
        )

    @property
    def _system(self):
        return self.folder / "system"

    @property
    def _python(self):
        (path,) = self._system.glob("usr/bin/python3.[0-9]*[0-9]")
        return path

    def _fetch(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        self._unpack_system()
        self._unpack_wheels()
        (self.folder / "ready").touch()

    def _unpack_system(self):
        """Python with all that it needs, by a state of apt of its own."""
        state = self.folder / "apt"
        for name in ("lists/partial", "cache/archives/partial"):
            (state / name).mkdir(parents=True)
        (state / "status").touch()
        options = {
            "Dir::State": state,
            "Dir::State::status": state / "status",
            "Dir::Cache": state / "cache",
            "APT::Architecture": "arm64",
            "APT::Architectures": "arm64",
        }
        apt = ["apt-get", "--quiet", "--yes"]
        for name, value in options.items():
            apt += ["--option", f"{name}={value}"]
        _call([*apt, "update"])
        install = ("install", "--no-install-recommends", "--download-only")
        _call([*apt, *install, "python3", "libstdc++6"])
        for package in state.glob("cache/archives/*.deb"):
            _call(["dpkg-deb", "--extract", package, self._system])
        shutil.rmtree(state)

    def _unpack_wheels(self):
        version = self._python.name.removeprefix("python")
        litert = f"ai-edge-litert=={metadata.version('ai-edge-litert')}"
        wheels = self.folder / "wheels"
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        pip += ["--only-binary=:all:", f"--python-version={version}"]
        pip += [f"--platform={name}" for name in PLATFORMS]
        _call([*pip, f"--dest={wheels}", litert, "numpy"])
        for wheel in wheels.iterdir():
            with zipfile.ZipFile(wheel) as file:
                file.extractall(self.folder / "site")
        shutil.rmtree(wheels)


def _call(command, env=None):
    result = subprocess.run(
        [os.fspath(word) for word in command],
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if result.returncode:
        raise RuntimeError(
            f"{' '.join(map(str, command))} ended with exit status "
            f"{result.returncode}:\n{result.stdout}"
        )
