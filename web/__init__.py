"""Knock: a self-hosted, server-rendered chat site."""
