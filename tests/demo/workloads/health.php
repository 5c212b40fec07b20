<?php
/* Readiness: the claim is there and the database answers. Writes nothing. */
mysqli_report(MYSQLI_REPORT_OFF);
$link = mysqli_init();
$link->options(MYSQLI_OPT_CONNECT_TIMEOUT, 2);
$database = @$link->real_connect(getenv('MARIADB_SERVICE_HOST'), 'wordpress',
    getenv('DATABASE_PASSWORD'), 'wordpress', (int) getenv('MARIADB_SERVICE_PORT'));
$content = is_dir('/var/lib/wordpress/wp-content/themes');
http_response_code($database && $content ? 200 : 503);
header('Content-Type: text/plain');
echo 'database ', $database ? 'ok' : 'unreachable', ', content ', $content ? 'ok' : 'missing', "\n";
