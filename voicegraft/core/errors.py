"""The one exception that is meant for a user's eyes."""


class VoicegraftError(Exception):
    """Something the user can put right.

    The message is one line that says what was expected, what came and what to do. The command line prints
    it as it is and exits with status 2; a programming error raises something else and keeps its traceback.
    """
