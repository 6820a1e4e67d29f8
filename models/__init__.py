"""Peewee tables, one module per aggregate, and the migrations that make them."""
