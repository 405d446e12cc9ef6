"""What a kind of download is: a file here with `Knobs` (its params) and `fetch`.

    def fetch(folder: Path, **knobs) -> None

fills an empty folder, the same way each time, or raises a UserError. Archives stay packed: readers read inside them, and
thousands of small files make every DVC command slow.
"""
