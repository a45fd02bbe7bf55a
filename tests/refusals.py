"""A command that refuses: exit code 2, one line on stderr, and no file."""


def assert_refused(outcome, told, *paths):
    code, out, err = outcome
    assert code == 2 and err.startswith("carlib: ") and err.count("\n") == 1 and told in err, outcome
    assert out == "" and not any(path.exists() for path in paths)
