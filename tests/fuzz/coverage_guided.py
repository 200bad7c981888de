"""Fuzzing guided by coverage, of the readers whose files come from anywhere.

    python tests/fuzz/coverage_guided.py TARGET [SECONDS] [FOLDER]

TARGET is idx, zip, tar, record, history, archive, claims, recipe, weights or checkpoint; the properties are those of
the tests beside this file. It needs atheris (Linux; `pip install atheris`), which is no dependency of dwfbench. FOLDER
keeps the inputs that reached new code, to go on from, and those that failed, as ``crash-*``.
"""

import sys
import tempfile
from pathlib import Path

try:
    import atheris
except ImportError:
    sys.exit(
        f"This needs atheris, and Python {sys.version_info.major}.{sys.version_info.minor} has none: `pip install "
        "atheris` in a virtual environment of a Python that it is built for."
    )

sys.path.insert(0, str(Path(__file__).parents[2]))

SECONDS = 60
LONGEST = 1 << 14  # bytes of an input
INSTRUMENTED = ["dwfbench", "zipfile", "gzip", "tomllib", "json.decoder", "PIL.PngImagePlugin", "csv"]


def main() -> None:
    target, seconds, kept = [*sys.argv[1:], str(SECONDS), ""][:3] if sys.argv[1:2] else ("", "", "")
    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests.fuzz import properties, seeds

    targets = {
        "idx": properties.idx_file,
        "zip": properties.image_zip,
        "tar": properties.image_tar,
        "record": properties.record,
        "history": properties.history,
        "archive": properties.archive,
        "claims": properties.claims_toml,
        "recipe": properties.recipe,
        "weights": properties.sparse_file,
        "checkpoint": properties.checkpoint,
    }
    if target not in targets or not seconds.isdecimal():
        sys.exit(f"Usage: coverage_guided.py {'|'.join(targets)} [SECONDS] [FOLDER]")
    with tempfile.TemporaryDirectory() as scratch:
        corpus = Path(kept or scratch)
        corpus.mkdir(parents=True, exist_ok=True)
        for number, content in enumerate(getattr(seeds, target)()):
            (corpus / f"seed-{number}").write_bytes(content)
        words = [f"-max_total_time={seconds}", f"-max_len={LONGEST}", "-timeout=20", "-rss_limit_mb=2048"]
        words += [f"-artifact_prefix={corpus}/", "-print_final_stats=1", str(corpus)]
        atheris.Setup([sys.argv[0], *words], targets[target])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
