#!/bin/sh
# First installation: themes and plugins of the package onto the claim. Run by guard.py, once.
set -eu
cp -a /usr/share/wordpress-seed/. /var/lib/wordpress/wp-content/
mkdir -p /var/lib/wordpress/wp-content/uploads
chown -R www-data:www-data /var/lib/wordpress/wp-content
