# Finds the book's code; clones it where this notebook stands alone.
import os, subprocess, sys
from pathlib import Path
REPO = os.environ.get("BOOK_REPO") or "https://github.com/OWNER/REPO"
here, marks = Path.cwd().resolve(), ("_toc.yml", "lib/__init__.py")
for root in (here, *here.parents, here / "robustness-book"):
    if all((root / mark).is_file() for mark in marks):
        break
else:
    git = "git -c http.lowSpeedLimit=99 -c http.lowSpeedTime=30".split()
    clone = [*git, "clone", "-q", "--depth", "1", REPO, str(root)]
    if "OWNER/REPO" in REPO or subprocess.run(clone).returncode:
        raise RuntimeError(
            f"No book code in {here} or at {REPO}. Set the variable "
            "BOOK_REPO to its address, check the network, and "
            f"remove {root} if it exists.")
sys.path.insert(0, str(root))
import lib
if Path(lib.__file__ or "/").parent != root / "lib":
    raise ImportError(
        f"{lib.__file__} is not the book's lib. Restart the kernel "
        "(Runtime > Restart session) and run this cell first.")
from lib import runs
gpu = runs.device().type != "cpu" or "google.colab" not in sys.modules
print(f"Book code ready (run: {runs.mode()}, device: {runs.device()})"
      + ("" if gpu else ". For a GPU: Runtime > Change runtime type"))
