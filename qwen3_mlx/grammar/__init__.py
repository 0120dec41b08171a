"""Answers that cannot break their form: types, JSON Schema, regex, choices and Lark grammars.

This room knows strings, bytes and token ids; it knows no model and no request.
"""
