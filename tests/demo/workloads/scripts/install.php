<?php
/* php install.php POSTS: install WordPress as its web form would, then write that many posts. */
define('WP_INSTALLING', true);
$_SERVER['HTTP_HOST'] = 'wordpress';
require '/usr/share/wordpress/wp-load.php';
require ABSPATH . 'wp-admin/includes/upgrade.php';
/* No mail, no call to a neighbour or to the outside. */
add_filter('pre_wp_mail', '__return_false');
add_filter('pre_http_request', fn() => new WP_Error('offline', 'the demo calls nobody'));
wp_install('Ararat', 'admin', 'admin@example.invalid', true, '', wp_generate_password());
wp_delete_post(1, true);
require __DIR__ . '/posts.php';
