#!/bin/sh
# First installation: system tables, the site's database and its user. Run by guard.py, once.
set -eu
chown mysql:mysql /var/lib/mysql
chmod 0750 /var/lib/mysql
mariadb-install-db --defaults-file=/opt/site/my.cnf --user=mysql --datadir=/var/lib/mysql \
  --auth-root-authentication-method=normal --skip-test-db >/dev/null
mariadbd --defaults-file=/opt/site/my.cnf --bootstrap <<SQL
FLUSH PRIVILEGES;
CREATE DATABASE wordpress CHARACTER SET utf8mb4;
CREATE USER wordpress@'%' IDENTIFIED BY '$DATABASE_PASSWORD';
GRANT ALL ON wordpress.* TO wordpress@'%';
SQL
