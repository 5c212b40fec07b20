<?php
/* php posts.php COUNT: write that many further posts, each of some paragraphs, and say which. */
$_SERVER['HTTP_HOST'] = 'wordpress';
require_once '/usr/share/wordpress/wp-load.php';
$words = ['flood', 'dove', 'olive', 'raven', 'timber', 'pitch', 'cubit', 'mountain', 'rainbow',
    'Արարատ', 'gopher', 'window', 'sheep', 'tortoise', 'summit', 'glacier'];
$have = (int) wp_count_posts()->publish;
for ($number = $have + 1; $number <= $have + (int) $argv[1]; $number++) {
    mt_srand($number);
    $paragraphs = '';
    for ($paragraph = 0; $paragraph < 12; $paragraph++) {
        $text = '';
        for ($word = 0; $word < 80; $word++) {
            $text .= $words[mt_rand(0, count($words) - 1)] . ' ';
        }
        $paragraphs .= '<!-- wp:paragraph --><p>' . trim($text) . ".</p><!-- /wp:paragraph -->\n";
    }
    $id = wp_insert_post([
        'post_title' => "Day $number on the ark",
        'post_content' => $paragraphs,
        'post_status' => 'publish',
        'post_author' => 1,
        'post_date' => gmdate('Y-m-d H:i:s', 1600000000 + 86400 * $number),
    ], true);
    if (is_wp_error($id)) {
        fwrite(STDERR, $id->get_error_message() . "\n");
        exit(1);
    }
}
echo (int) wp_count_posts()->publish, " posts\n";
