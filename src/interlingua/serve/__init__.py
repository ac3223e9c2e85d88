"""The service: what a model does, over HTTP and on a page; extra ``[serve]``."""
