"""The ways in: one file for each value of the setting `exposure`.

`contract` says what every way in offers, `address` holds what several of them need, and `choice` picks the one that the
settings name. For a further way in: write its file, and name it in `choice` and in the setting's list of values.
"""
