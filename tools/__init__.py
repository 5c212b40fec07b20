"""Programs that make files of this repository; nothing here is shipped."""
