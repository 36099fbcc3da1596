"""Against the authors' QAM code (github.com/ColinQiyangLi/qam): same numbers, and time."""
