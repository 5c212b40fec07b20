"""The command line: what people type. Nothing else imports it, and no image holds it."""
