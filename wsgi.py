"""The WSGI entry point: ``gunicorn`` and ``flask`` find ``app`` here."""

from webapp.app import create_app

app = create_app()
