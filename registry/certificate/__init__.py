"""The certificate of the registry's host: one file for each value of the setting `certificateIssuer`.

`contract` says what every issuer offers and what they have in common; `choice` picks the one that the settings name.
"""
