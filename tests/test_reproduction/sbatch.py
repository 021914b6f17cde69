"""Reads the options of a job script as sbatch does, a character at a time."""


def read_options(script: str) -> list[str]:
    """Words that sbatch hands to getopt: directives up to the first command.

    Lines of the older schedulers that it understands count wherever they are.
    """
    found, is_head = [], True
    for line in script.split('\n'):
        head = next(
            (w for w in ('#SBATCH', '#SLURM') if line.startswith(w)), None
        )
        if is_head and head:
            found += split(line[len(head) :])
        elif line.startswith(('#PBS', '#BSUB')):
            found.append(line)
        elif line.strip() and not line.strip().startswith('#'):
            is_head = False
    return found


def split(line: str) -> list[str]:
    """Words of a directive."""
    words, word, quote, is_escaped = [], None, '', False
    for character in line:
        if not is_escaped and character == '\\':
            is_escaped = True
            continue
        if is_escaped:
            is_escaped = False
        elif quote:
            if character == quote:
                quote = ''
                continue
        elif character in '"\'':
            quote = character
            continue
        elif character == '#':
            break
        elif character.isspace():
            if word is not None:
                words.append(word)
            word = None
            continue
        word = (word or '') + character
    assert not quote, f'sbatch: Unmatched {quote} in {line}'
    return words if word is None else [*words, word]
