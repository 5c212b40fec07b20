<?php
/* Everything comes from the environment: the password from a Secret, the database's address from
   the variables Kubernetes sets for the Service `mariadb` (the cluster needs no DNS). */
define('DB_NAME', 'wordpress');
define('DB_USER', 'wordpress');
define('DB_PASSWORD', getenv('DATABASE_PASSWORD'));
define('DB_HOST', getenv('MARIADB_SERVICE_HOST') . ':' . getenv('MARIADB_SERVICE_PORT'));
define('DB_CHARSET', 'utf8mb4');
define('WP_CONTENT_DIR', '/var/lib/wordpress/wp-content');
define('WP_HOME', 'http://' . ($_SERVER['HTTP_HOST'] ?? 'wordpress'));
define('WP_SITEURL', WP_HOME);
/* Nothing is written, and nobody is called, unless a person asks. */
define('DISABLE_WP_CRON', true);
define('WP_HTTP_BLOCK_EXTERNAL', true);
define('AUTOMATIC_UPDATER_DISABLED', true);
