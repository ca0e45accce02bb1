<?php
$curl = curl_init('https://api.openai.com/v1/models');
curl_setopt_array($curl, [
    CURLOPT_RETURNTRANSFER => true,
    CURLOPT_FAILONERROR => true,
    CURLOPT_HTTPHEADER => ['Authorization: Bearer ' . getenv('OPENAI_API_KEY')],
]);
$body = curl_exec($curl);
if ($body === false) {
    exit(curl_error($curl) . "\n");
}
echo 'answer: ', json_decode($body)->data[0]->id, "\n";
